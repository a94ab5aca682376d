using System.Collections.Concurrent;
using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Workloads;

// Orders come in at a steady rate, whatever becomes of those before; how long after the commit a consumer has the message.
public sealed class LatencyWorkload(string name, string description, IReadOnlyList<Contestant> contestants, double? perSecond, TimeSpan duration) : Workload(name, description)
{
    private const double RateWithoutW1 = 500;
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(1);

    public override IReadOnlyList<Contestant> Contestants => contestants;

    public override int MaxRepetitions => 3;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        await using var application = trial.Contestant.CreatePublisher(trial.Stage)!;
        await using var arrivals = await Arrivals.BindAsync(trial.Stage.VirtualHost, quorum: false, application.Exchange);
        await arrivals.ListenAsync();
        await application.StartAsync();

        // Half of what it reached before, in the same run.
        var offered = perSecond ?? (trial.Results.Find("W1", trial.Contestant.Name, "messages_per_second")?.Median / 2) ?? RateWithoutW1;
        var committed = new ConcurrentDictionary<int, long>();
        var warmUp = (int)(offered * s_warmUp.TotalSeconds);
        var orders = warmUp + (int)(offered * duration.TotalSeconds);
        await PlaceAsync(application, orders, offered, committed);
        await Eventually.BecomesAsync(() => Task.FromResult(arrivals.Seen.Count), count => count == orders, "every order has arrived");

        var latencies = Enumerable.Range(warmUp + 1, orders - warmUp)
            .Select(number => Math.Max(0, Stopwatch.GetElapsedTime(committed[number], arrivals.Seen[number]).TotalMilliseconds))
            .Order().ToList();
        return
        [
            new("latency_p50_ms", "ms", latencies[latencies.Count / 2]),
            new("latency_p99_ms", "ms", latencies[latencies.Count * 99 / 100]),
            new("offered_per_second", "1/s", offered),
        ];
    }

    private static async Task PlaceAsync(IPublishingApp application, int orders, double offered, ConcurrentDictionary<int, long> committed)
    {
        var started = Stopwatch.GetTimestamp();
        var placing = new List<Task>(orders);
        for (var number = 1; number <= orders; number++)
        {
            var ahead = TimeSpan.FromSeconds(number / offered) - Stopwatch.GetElapsedTime(started);
            if (ahead > TimeSpan.FromMilliseconds(1))
                await Task.Delay(ahead);
            placing.Add(PlaceOneAsync(number));
        }

        await Task.WhenAll(placing);

        async Task PlaceOneAsync(int number)
        {
            await application.PlaceOrderAsync(References.Of(number), 1);
            committed[number] = Stopwatch.GetTimestamp();
        }
    }
}
