using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.Benchmarks.Workloads;

var which = args.Length > 0 ? args[0].Split(',') : [];
var only = args.Length > 1 ? args[1].Split(',') : [];
var repeat = args.Length > 2 ? int.Parse(args[2], System.Globalization.CultureInfo.InvariantCulture) : 2;
Contestant[] all = [new OutboxBusContestant(), new RawContestant(), new MassTransitDirectContestant()];
all = [.. all.Where(c => only.Length == 0 || only.Contains(c.Name))];
Workload[] workloads =
[
    new PublishingWorkload("W1", "", all, 5000, 1),
    new LatencyWorkload("W1-latency", "", all, _ => 100, TimeSpan.FromSeconds(5)),
    new DrainWorkload("W2-classic", "", [.. all.Where(c => c.Name != "masstransit-direct")], 30000, false),
    new DrainWorkload("W2-quorum", "", [.. all.Where(c => c.Name != "masstransit-direct")], 30000, true),
    new ConsumingWorkload("W3", "", all, 4000),
    new PublishingWorkload("W4", "", all, 1500, 10),
];
await using var servers = await BenchmarkServers.StartAsync();
for (var r = 0; r < repeat; r++)
foreach (var w in workloads.Where(w => which.Length == 0 || which.Contains(w.Name)))
    foreach (var c in w.Contestants)
    {
        Console.WriteLine($"{w.Name} {c} " + string.Join("  ", (await w.RunAsync(c, servers)).Select(s => $"{s.Metric}={s.Value:0.##}")));
    }
