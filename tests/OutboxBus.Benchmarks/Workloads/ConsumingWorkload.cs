using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;

namespace OutboxBus.Benchmarks.Workloads;

// Orders lie in a queue; each is consumed once, with a row and a message. The clock starts when a tenth has been done.
public sealed class ConsumingWorkload(string name, string description, IReadOnlyList<Contestant> contestants, int orders) : Workload(name, description)
{
    public override IReadOnlyList<Contestant> Contestants => contestants;

    public override bool CountsRoundTrips => true;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        await using var application = trial.Contestant.CreateConsumer(trial.Stage)!;
        await using var arrivals = await Arrivals.BindAsync(trial.Stage.VirtualHost, quorum: false, application.OutputExchange);
        await application.FillAsync(orders);
        await application.StartAsync();

        await arrivals.WaitForAsync(orders / 10, Patience);
        var before = await trial.Meter.ReadAsync();
        var (alreadyThere, started) = (await arrivals.CountAsync(), Stopwatch.GetTimestamp());
        await arrivals.WaitForAsync(orders, Patience);
        var elapsed = Stopwatch.GetElapsedTime(started);
        var after = await trial.Meter.ReadAsync();

        await arrivals.CheckAsync(orders);
        return [new("messages_per_second", "1/s", (orders - alreadyThere) / elapsed.TotalSeconds), .. after.Since(before, orders - alreadyThere)];
    }
}
