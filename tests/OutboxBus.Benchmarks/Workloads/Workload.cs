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

    // Whether its round trips are worth counting, in a trial of their own through a tap.
    public virtual bool CountsRoundTrips => false;

    // At most so many measured trials; some need no repetition.
    public virtual int MaxRepetitions => int.MaxValue;

    // What was measured; throws if anything was lost or doubled.
    public abstract Task<IReadOnlyList<Sample>> RunAsync(Trial trial);
}

// One run of a workload. The results are those of the run so far.
public sealed record Trial(Contestant Contestant, BenchmarkStage Stage, CostMeter Meter, ResultSet Results);
