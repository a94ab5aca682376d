using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;

namespace OutboxBus.Benchmarks.Workloads;

// One kind of work. A trial runs it once for one contestant, on a database and a virtual host of its own.
public abstract class Workload(string name, string description)
{
    protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    public string Name { get; } = name;

    public string Description { get; } = description;

    public abstract IReadOnlyList<Contestant> Contestants { get; }

    // What was measured; throws if anything was lost or doubled.
    public abstract Task<IReadOnlyList<Sample>> RunAsync(Contestant contestant, BenchmarkServers servers);
}
