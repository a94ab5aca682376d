using Npgsql;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Workloads;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Measuring;

// Runs every workload for every contestant, interleaved: one repetition of all contestants, then the next, each time beginning with
// another. What disturbs the machine disturbs all alike, and the ratios within the run can be trusted.
public sealed class BenchmarkRun(BenchmarkServers servers, IReadOnlyList<Workload> workloads, int repetitions)
{
    private readonly ResultSet _results = new();

    // Of all trials, for a progress bar.
    public int Trials => workloads.Sum(workload => (RoundsOf(workload) + (workload.CountsRoundTrips ? 1 : 0)) * workload.Contestants.Count);

    public async Task<ResultSet> RunAsync(Action<string> starting)
    {
        foreach (var workload in workloads)
        {
            for (var round = 0; round < RoundsOf(workload); round++)
            {
                for (var turn = 0; turn < workload.Contestants.Count; turn++)
                {
                    var contestant = workload.Contestants[(round + turn) % workload.Contestants.Count];
                    starting($"{workload.Name} {contestant}");
                    // The first round of a process is cold: much of its code is not compiled to the end.
                    await TrialAsync(workload, contestant, isMeasured: round >= ColdRounds(workload), tapped: false);
                }
            }

            foreach (var contestant in workload.Contestants.Where(_ => workload.CountsRoundTrips))
            {
                starting($"{workload.Name} {contestant} round trips");
                await TrialAsync(workload, contestant, isMeasured: true, tapped: true);
            }
        }

        return _results;
    }

    // Those that run once last long enough, and a run of one repetition is a first look.
    private int ColdRounds(Workload workload) => workload.MaxRepetitions > 1 && repetitions > 1 ? 1 : 0;

    private int RoundsOf(Workload workload) => ColdRounds(workload) + Math.Min(repetitions, workload.MaxRepetitions);

    private async Task TrialAsync(Workload workload, Contestant contestant, bool isMeasured, bool tapped)
    {
        var stage = await servers.CreateStageAsync(workload.Name);
        await using var tap = tapped ? new PostgresTap(stage.ConnectionString) : null;
        if (tap is not null)
            stage = stage with { ConnectionString = tap.ConnectionString };

        IReadOnlyList<Sample> samples;
        try
        {
            samples = await workload.RunAsync(new Trial(contestant, stage, new CostMeter(servers, tap), _results));
        }
        catch (Exception exception)
        {
            throw new InvalidOperationException($"{workload.Name} of {contestant} has failed: {exception.Message}", exception);
        }

        // Connections to a database that nobody needs any more use up the server's number.
        NpgsqlConnection.ClearAllPools();
        if (isMeasured)
            _results.Add(workload.Name, contestant.Name, samples.Where(sample => !tapped || sample.Metric == "round_trips_per_message"));
    }
}
