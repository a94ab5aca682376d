using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Workloads;

// Half load for a long time: whether memory stays what it is. The quarters of the run are compared.
public sealed class SoakWorkload(string name, string description, Contestant contestant, double perSecond, TimeSpan duration) : Workload(name, description)
{
    // No more than a pool of connections has.
    private const int MostAtOnce = 50;
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(5);

    public override IReadOnlyList<Contestant> Contestants { get; } = [contestant];

    public override int MaxRepetitions => 1;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        await using var application = trial.Contestant.CreatePublisher(trial.Stage)!;
        await using var arrivals = await Arrivals.BindAsync(trial.Stage.VirtualHost, quorum: false, application.Exchange);
        // Takes the messages away and remembers nothing of them, which would be growth of its own.
        await arrivals.ListenAsync(remembers: false);
        await application.StartAsync();

        using var ended = new CancellationTokenSource(duration);
        var watching = WatchAsync(ended.Token);
        var placed = await PlaceAsync(application, ended.Token);
        var memory = await watching;
        await Eventually.BecomesAsync(() => Task.FromResult(arrivals.Received), received => received == placed, "every order has arrived, once");

        return
        [
            new("messages", "", placed),
            .. Enumerable.Range(0, 4).SelectMany(quarter => OfQuarter(memory, quarter)),
        ];
    }

    private static IEnumerable<Sample> OfQuarter(List<(double Heap, double WorkingSet)> memory, int quarter)
    {
        var part = memory.Skip(memory.Count * quarter / 4).Take(Math.Max(1, memory.Count / 4)).ToList();
        yield return new($"heap_mb_quarter_{quarter + 1}", "MB", part.Select(sample => sample.Heap).Median());
        yield return new($"working_set_mb_quarter_{quarter + 1}", "MB", part.Select(sample => sample.WorkingSet).Median());
    }

    private static async Task<List<(double Heap, double WorkingSet)>> WatchAsync(CancellationToken ended)
    {
        const double Mega = 1024 * 1024;
        var samples = new List<(double, double)>();
        while (!ended.IsCancellationRequested)
        {
            await Task.Delay(s_between, ended).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            // What is alive, not what waits for collection.
            GC.Collect();
            samples.Add((GC.GetTotalMemory(forceFullCollection: false) / Mega, Environment.WorkingSet / Mega));
        }

        return samples;
    }

    private async Task<int> PlaceAsync(IPublishingApp application, CancellationToken ended)
    {
        using var atOnce = new SemaphoreSlim(MostAtOnce, MostAtOnce);
        var placed = 0;
        for (var started = Stopwatch.GetTimestamp(); !ended.IsCancellationRequested;)
        {
            var due = (int)(Stopwatch.GetElapsedTime(started).TotalSeconds * perSecond);
            for (; placed < due; placed++)
            {
                await atOnce.WaitAsync(CancellationToken.None);
                _ = PlaceOneAsync(placed);
            }

            await Task.Delay(1, CancellationToken.None);
        }

        for (var permit = 0; permit < MostAtOnce; permit++)
            await atOnce.WaitAsync(CancellationToken.None);
        return placed;

        async Task PlaceOneAsync(int number)
        {
            try
            {
                await application.PlaceOrderAsync(References.Of(number), 1);
            }
            finally
            {
                atOnce.Release();
            }
        }
    }
}
