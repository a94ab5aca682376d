using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;

namespace OutboxBus.Benchmarks.Workloads;

// The broker was away, and rows have gathered: how fast they leave. The clock starts with the first arrivals, after connecting.
public sealed class DrainWorkload(string name, string description, IReadOnlyList<Contestant> contestants, int rows, bool quorum) : Workload(name, description)
{
    public override IReadOnlyList<Contestant> Contestants => contestants;

    public override int MaxRepetitions => 3;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        await Backlog.CreateAsync(trial.Stage, rows);
        // The raw loop's exchange, and OutboxBus'.
        await using var arrivals = await Arrivals.BindAsync(trial.Stage.VirtualHost, quorum, RawContestant.OrdersExchange, MassTransitNames.ExchangeOf<OrderPlaced>());
        await using var application = trial.Contestant.CreateDrain(trial.Stage)!;
        await application.StartAsync();

        var first = rows / 10;
        await arrivals.WaitForAsync(first, Patience);
        var before = await trial.Meter.ReadAsync();
        var (alreadyThere, started) = (await arrivals.CountAsync(), Stopwatch.GetTimestamp());
        await arrivals.WaitForAsync(rows, Patience);
        var elapsed = Stopwatch.GetElapsedTime(started);
        var after = await trial.Meter.ReadAsync();

        await arrivals.CheckAsync(rows);
        await Backlog.WaitUntilEmptyAsync(trial.Stage);
        return [new("messages_per_second", "1/s", (rows - alreadyThere) / elapsed.TotalSeconds), .. after.Since(before, rows - alreadyThere)];
    }
}
