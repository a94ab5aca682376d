using System.Collections.Concurrent;
using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;

namespace OutboxBus.Benchmarks.Workloads;

// Orders come in at a steady rate, whatever becomes of those before; how long after the commit a consumer has the message.
public sealed class LatencyWorkload(string name, string description, IReadOnlyList<Contestant> contestants, Func<Contestant, double> rate, TimeSpan duration) : Workload(name, description)
{
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(1);

    public override IReadOnlyList<Contestant> Contestants => contestants;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Contestant contestant, BenchmarkServers servers)
    {
        var stage = await servers.CreateStageAsync(Name);
        await using var application = contestant.CreatePublisher(stage)!;
        await using var arrivals = await Arrivals.BindAsync(stage.VirtualHost, quorum: false, application.Exchange);
        await arrivals.ListenAsync();
        await application.StartAsync();

        var perSecond = rate(contestant);
        var committed = new ConcurrentDictionary<int, long>();
        var warmUp = (int)(perSecond * s_warmUp.TotalSeconds);
        var orders = warmUp + (int)(perSecond * duration.TotalSeconds);
        await PlaceAsync(application, orders, perSecond, committed);
        await WaitAsync(arrivals, orders);

        var latencies = Enumerable.Range(warmUp + 1, orders - warmUp)
            .Select(number => Math.Max(0, Stopwatch.GetElapsedTime(committed[number], arrivals.Seen[number]).TotalMilliseconds))
            .Order().ToList();
        return
        [
            new("latency_p50_ms", "ms", latencies[latencies.Count / 2]),
            new("latency_p99_ms", "ms", latencies[latencies.Count * 99 / 100]),
            new("offered_per_second", "1/s", perSecond),
        ];
    }

    private static async Task PlaceAsync(IPublishingApp application, int orders, double perSecond, ConcurrentDictionary<int, long> committed)
    {
        var started = Stopwatch.GetTimestamp();
        var placing = new List<Task>(orders);
        for (var number = 1; number <= orders; number++)
        {
            var ahead = TimeSpan.FromSeconds(number / perSecond) - Stopwatch.GetElapsedTime(started);
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

    private static async Task WaitAsync(Arrivals arrivals, int orders)
    {
        for (var started = Stopwatch.GetTimestamp(); arrivals.Seen.Count < orders; await Task.Delay(10))
        {
            if (Stopwatch.GetElapsedTime(started) > Patience)
                throw new TimeoutException($"{arrivals.Seen.Count} of {orders} messages have arrived after {Patience.TotalSeconds} s.");
        }
    }
}
