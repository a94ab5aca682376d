using System.Diagnostics;
using System.Text.Json;
using Npgsql;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.PostgreSql;
using OutboxBus.Storage;

namespace OutboxBus.Benchmarks.Workloads;

// What a claim of 500 rows costs while the table grows, and while a session that forgot to end its transaction keeps vacuum from
// removing what was sent.
public sealed class GrowthWorkload(string name, string description, Contestant contestant, IReadOnlyList<int> sizes, int churn) : Workload(name, description)
{
    private const int Claims = 15;
    private const int Batch = 500;

    private static readonly PostgreSqlDialect s_dialect = new(new OutboxTables());

    public override IReadOnlyList<Contestant> Contestants { get; } = [contestant];

    public override int MaxRepetitions => 1;

    public override async Task<IReadOnlyList<Sample>> RunAsync(Trial trial)
    {
        var samples = new List<Sample>();
        await using var database = NpgsqlDataSource.Create(trial.Stage.ConnectionString);
        var rows = 1;
        await Backlog.CreateAsync(trial.Stage, rows);
        foreach (var size in sizes)
        {
            await Backlog.GrowAsync(trial.Stage, size - rows);
            rows = size;
            samples.AddRange(await MeasureAsync(database, $"{size}_rows"));
        }

        await using var truncate = database.CreateCommand("delete from outbox_message where id > 1");
        truncate.CommandTimeout = 0;
        await truncate.ExecuteNonQueryAsync();
        await using var vacuum = database.CreateCommand("vacuum full outbox_message");
        vacuum.CommandTimeout = 0;
        await vacuum.ExecuteNonQueryAsync();

        // It sees all that the table has had since.
        await using var forgotten = await database.OpenConnectionAsync();
        await using var transaction = await forgotten.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead);
        await using var snapshot = new NpgsqlCommand("select 1", forgotten, transaction);
        await snapshot.ExecuteScalarAsync();
        for (var sent = 0; sent < churn; sent += 10_000)
        {
            await Backlog.GrowAsync(trial.Stage, 10_000);
            await SendAllAsync(database);
        }

        await Backlog.GrowAsync(trial.Stage, 1_000);
        samples.AddRange(await MeasureAsync(database, $"{churn}_dead_rows"));
        return samples;
    }

    // All but the first row, which the copies are made of.
    private static async Task SendAllAsync(NpgsqlDataSource database)
    {
        await using var claim = database.CreateCommand("update outbox_message set visible_at = clock_timestamp() + interval '30 s', claim_count = 1 where id > 1");
        await claim.ExecuteNonQueryAsync();
        await using var delete = database.CreateCommand("delete from outbox_message where id > 1");
        await delete.ExecuteNonQueryAsync();
    }

    private static async Task<IEnumerable<Sample>> MeasureAsync(NpgsqlDataSource database, string state)
    {
        var times = new List<double>();
        await using var connection = await database.OpenConnectionAsync();
        for (var claim = 0; claim < Claims; claim++)
        {
            // Taken back, so that each claim finds the same.
            await using var transaction = await connection.BeginTransactionAsync();
            await using var command = connection.CreateCommand();
            s_dialect.Claim(command, "default", Batch, TimeSpan.FromSeconds(30));
            var started = Stopwatch.GetTimestamp();
            await using (var reader = await command.ExecuteReaderAsync())
            {
                while (await reader.ReadAsync())
                {
                }
            }

            times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
        }

        times.Sort();
        return [new($"claim_ms_{state}", "ms", times[times.Count / 2]), new($"claim_pages_{state}", "", await PagesAsync(connection))];
    }

    private static async Task<double> PagesAsync(NpgsqlConnection connection)
    {
        await using var transaction = await connection.BeginTransactionAsync();
        await using var command = connection.CreateCommand();
        s_dialect.Claim(command, "default", Batch, TimeSpan.FromSeconds(30));
        command.CommandText = $"explain (analyze, buffers, format json) {command.CommandText}";
        using var plan = JsonDocument.Parse((string)(await command.ExecuteScalarAsync())!);
        var top = plan.RootElement[0].GetProperty("Plan");
        return top.GetProperty("Shared Hit Blocks").GetDouble() + top.GetProperty("Shared Read Blocks").GetDouble();
    }
}
