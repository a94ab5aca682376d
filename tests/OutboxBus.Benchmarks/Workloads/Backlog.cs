using Npgsql;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Workloads;

// Rows in an outbox table that nobody has sent.
internal static class Backlog
{
    // One message as OutboxBus stores it, then copies of it with ids of their own.
    public static async Task CreateAsync(BenchmarkStage stage, int rows)
    {
        await using (var application = new OutboxBusContestant(configure: bus => bus.Delivery(delivery => delivery.Enabled = false)).CreatePublisher(stage))
        {
            await application.StartAsync();
            await application.PlaceOrderAsync(References.Of(1), 1);
        }

        await GrowAsync(stage, rows - 1);
    }

    public static async Task GrowAsync(BenchmarkStage stage, int rows)
    {
        await using var database = NpgsqlDataSource.Create(stage.ConnectionString);
        await using var command = database.CreateCommand("""
            insert into outbox_message (bus, visible_at, message_id, destination, message_type, content_type, headers, properties, body)
            select bus, visible_at, new_id, destination, message_type, content_type, headers,
                replace(properties, properties::json ->> 'conversationId', new_id::text),
                convert_to(replace(convert_from(body, 'UTF8'), message_id::text, new_id::text), 'UTF8')
            from (select * from outbox_message order by id limit 1) as first, generate_series(1, $1), lateral (select gen_random_uuid() as new_id where generate_series > 0) as fresh
            """);
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = rows });
        command.CommandTimeout = 0;
        await command.ExecuteNonQueryAsync();
        await using var analyze = database.CreateCommand("vacuum analyze outbox_message");
        analyze.CommandTimeout = 0;
        await analyze.ExecuteNonQueryAsync();
    }

    public static async Task WaitUntilEmptyAsync(BenchmarkStage stage)
    {
        await using var database = NpgsqlDataSource.Create(stage.ConnectionString);
        await Eventually.BecomesAsync(
            async () =>
            {
                await using var command = database.CreateCommand("select count(*) from outbox_message");
                return (long)(await command.ExecuteScalarAsync())!;
            },
            rows => rows == 0,
            "the outbox is empty");
    }
}
