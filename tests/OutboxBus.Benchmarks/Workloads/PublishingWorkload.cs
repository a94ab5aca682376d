using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;

namespace OutboxBus.Benchmarks.Workloads;

// Workers place orders as fast as they can; end to end is until the bound queue holds every message.
public sealed class PublishingWorkload(string name, string description, IReadOnlyList<Contestant> contestants, int orders, int messagesPerOrder) : Workload(name, description)
{
    private const int Workers = 16;

    public override IReadOnlyList<Contestant> Contestants => contestants;

    public override bool CountsRoundTrips => true;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        await using var application = trial.Contestant.CreatePublisher(trial.Stage)!;
        await using var arrivals = await Arrivals.BindAsync(trial.Stage.VirtualHost, quorum: false, application.Exchange);
        await application.StartAsync();

        // Connections, prepared statements, the first message of its type.
        var warmUp = Math.Max(Workers, orders / 10);
        await PlaceAsync(application, warmUp);
        await arrivals.WaitForAsync(warmUp * messagesPerOrder, Patience);

        var before = await trial.Meter.ReadAsync();
        var started = Stopwatch.GetTimestamp();
        await PlaceAsync(application, orders);
        var committed = Stopwatch.GetElapsedTime(started);
        var messages = orders * messagesPerOrder;
        await arrivals.WaitForAsync((warmUp * messagesPerOrder) + messages, Patience);
        var arrived = Stopwatch.GetElapsedTime(started);
        var after = await trial.Meter.ReadAsync();

        await arrivals.CheckAsync((warmUp * messagesPerOrder) + messages);
        return
        [
            new("messages_per_second", "1/s", messages / arrived.TotalSeconds),
            new("commits_per_second", "1/s", orders / committed.TotalSeconds),
            .. after.Since(before, messages),
        ];
    }

    private async Task PlaceAsync(IPublishingApp application, int orders)
    {
        var next = 0;
        await Task.WhenAll(Enumerable.Range(0, Workers).Select(_ => Task.Run(WorkAsync)));

        async Task WorkAsync()
        {
            for (int number; (number = Interlocked.Increment(ref next)) <= orders;)
                await application.PlaceOrderAsync(References.Of(number), messagesPerOrder);
        }
    }
}
