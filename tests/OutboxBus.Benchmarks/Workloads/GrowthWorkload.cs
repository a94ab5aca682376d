using System.Diagnostics;
using System.Text.Json;
using Npgsql;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.PostgreSql;
using OutboxBus.Storage;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Workloads;

// What a claim of 500 rows costs while the table grows, and while a session that forgot to end its transaction keeps vacuum from
// removing what was sent.
public sealed class GrowthWorkload(string name, string description, Contestant contestant, IReadOnlyList<int> sizes, int churn) : Workload(name, description)
{
    private const int Claims = 31;
    private const int ChurnBatch = 10_000;
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
        // Growing vacuums by itself; of a table of this size nobody waits for another.
        await ExecuteAsync(database, "alter table outbox_message set (autovacuum_enabled = off)");
        foreach (var size in sizes)
        {
            await Backlog.GrowAsync(trial.Stage, size - rows);
            rows = size;
            samples.AddRange(await MeasureAsync(database, $"{size}_rows"));
        }

        await ExecuteAsync(database, "create table template as select * from outbox_message order by id limit 1; truncate outbox_message; alter table outbox_message set (autovacuum_enabled = on)");

        // It sees all that the table has had since, and nothing of that can be removed.
        await using var forgotten = await database.OpenConnectionAsync();
        await using var transaction = await forgotten.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead);
        await using var snapshot = new NpgsqlCommand("select 1", forgotten, transaction);
        await snapshot.ExecuteScalarAsync();
        for (var sent = 0; sent < churn; sent += ChurnBatch)
        {
            await ExecuteAsync(database, Insert(ChurnBatch));
            await ExecuteAsync(database, "delete from outbox_message");
        }

        var inserted = Stopwatch.GetTimestamp();
        await ExecuteAsync(database, Insert(Batch));
        samples.AddRange(await MeasureAsync(database, $"{churn}_dead_rows"));
        // What most claims look at when looking at everything has become dear.
        samples.AddRange(await MeasureAsync(database, $"{churn}_dead_rows_recent", Stopwatch.GetElapsedTime(inserted) + TimeSpan.FromSeconds(1)));
        return samples;
    }

    private static string Insert(int rows) => $"""
        insert into outbox_message (bus, visible_at, message_id, destination, message_type, content_type, headers, properties, body)
        select bus, clock_timestamp(), gen_random_uuid(), destination, message_type, content_type, headers, properties, body from template, generate_series(1, {rows})
        """;

    private static async Task ExecuteAsync(NpgsqlDataSource database, string statements)
    {
        await using var command = database.CreateCommand(statements);
        command.CommandTimeout = 0;
        await command.ExecuteNonQueryAsync();
    }

    // What filling the table has left to do would be measured too.
    private static async Task SettleDownAsync(NpgsqlDataSource database)
    {
        await ExecuteAsync(database, "checkpoint");
        await Eventually.BecomesAsync(
            async () =>
            {
                await using var vacuums = database.CreateCommand("select count(*) from pg_stat_progress_vacuum");
                return (long)(await vacuums.ExecuteScalarAsync())!;
            },
            running => running == 0,
            "no vacuum is running");
    }

    private static async Task<IEnumerable<Sample>> MeasureAsync(NpgsqlDataSource database, string state, TimeSpan? within = null)
    {
        await SettleDownAsync(database);
        var times = new List<double>();
        await using var connection = await database.OpenConnectionAsync();
        for (var claim = 0; claim < Claims; claim++)
        {
            // Taken back, so that each claim finds the same.
            await using var transaction = await connection.BeginTransactionAsync();
            await using var command = connection.CreateCommand();
            s_dialect.Claim(command, "default", Batch, TimeSpan.FromSeconds(30), within);
            var started = Stopwatch.GetTimestamp();
            await using (var reader = await command.ExecuteReaderAsync())
            {
                while (await reader.ReadAsync())
                {
                }
            }

            times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
        }

        return [new($"claim_ms_{state}", "ms", times.Median()), new($"claim_pages_{state}", "", await PagesAsync(connection, within))];
    }

    private static async Task<double> PagesAsync(NpgsqlConnection connection, TimeSpan? within)
    {
        await using var transaction = await connection.BeginTransactionAsync();
        await using var command = connection.CreateCommand();
        s_dialect.Claim(command, "default", Batch, TimeSpan.FromSeconds(30), within);
        command.CommandText = $"explain (analyze, buffers, format json) {command.CommandText}";
        using var plan = JsonDocument.Parse((string)(await command.ExecuteScalarAsync())!);
        var top = plan.RootElement[0].GetProperty("Plan");
        return top.GetProperty("Shared Hit Blocks").GetDouble() + top.GetProperty("Shared Read Blocks").GetDouble();
    }
}
