using System.Diagnostics;
using Npgsql;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;

namespace OutboxBus.Benchmarks.Workloads;

// Several instances empty one table: nothing twice, no deadlock, no failed statement.
public sealed class InstancesWorkload(string name, string description, Contestant contestant, int instances, int rows) : Workload(name, description)
{
    public override IReadOnlyList<Contestant> Contestants { get; } = [contestant];

    public override int MaxRepetitions => 2;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        await Backlog.CreateAsync(trial.Stage, rows);
        await using var arrivals = await Arrivals.BindAsync(trial.Stage.VirtualHost, quorum: false, MassTransitNames.ExchangeOf<OrderPlaced>());
        await using var database = NpgsqlDataSource.Create(trial.Stage.ConnectionString);
        var failuresBefore = await FailuresAsync(database);
        var applications = Enumerable.Range(0, instances).Select(_ => trial.Contestant.CreateDrain(trial.Stage)!).ToList();
        try
        {
            foreach (var application in applications)
                await application.StartAsync();
            var (alreadyThere, started) = (await arrivals.CountAsync(), Stopwatch.GetTimestamp());
            await arrivals.WaitForAsync(rows, Patience);
            var elapsed = Stopwatch.GetElapsedTime(started);
            await Backlog.WaitUntilEmptyAsync(trial.Stage);
            // Whatever an instance still had in hand would come now.
            await arrivals.CheckAsync(rows);
            var duplicates = await arrivals.CountAsync() - rows;
            var failures = await FailuresAsync(database) - failuresBefore;
            if (failures > 0)
                throw new InvalidOperationException($"{failures} transactions were rolled back or ended by a deadlock.");
            return [new("messages_per_second", "1/s", (rows - alreadyThere) / elapsed.TotalSeconds), new("duplicates", "", duplicates), new("failed_transactions", "", failures)];
        }
        finally
        {
            foreach (var application in applications)
                await application.DisposeAsync();
        }
    }

    private static async Task<long> FailuresAsync(NpgsqlDataSource database)
    {
        await using var command = database.CreateCommand("select xact_rollback + deadlocks + conflicts from pg_stat_database where datname = current_database()");
        return (long)(await command.ExecuteScalarAsync())!;
    }
}
