using Npgsql;

namespace OutboxBus.Benchmarks.Contestants;

// Claims the next thousand while the last are on their way.
internal sealed class RawDrain(BenchmarkStage stage, string exchange) : IDrainingApp
{
    private const string Claim = """
        with due as materialized (
            select id from outbox_message
            where bus = 'default' and visible_at <= statement_timestamp()
            order by visible_at, id
            limit 1000
            for update skip locked)
        update outbox_message as message
        set visible_at = clock_timestamp() + interval '30 s'
        from due
        where message.id = due.id
        returning message.id, message.message_id, message.message_type, message.content_type, message.body
        """;

    private readonly NpgsqlDataSource _database = NpgsqlDataSource.Create(stage.ConnectionString);
    private readonly RawDelivery _delivery = new(stage, exchange);
    private Task _running = Task.CompletedTask;

    public async Task StartAsync()
    {
        await _delivery.StartAsync();
        _running = Task.Run(RunAsync);
    }

    public async ValueTask DisposeAsync()
    {
        await _running;
        await _delivery.DisposeAsync();
        await _database.DisposeAsync();
    }

    private async Task RunAsync()
    {
        for (var claiming = ClaimAsync(); await claiming is { Count: > 0 } claimed;)
        {
            claiming = ClaimAsync();
            foreach (var envelope in claimed)
                await _delivery.SendAsync(envelope);
        }
    }

    private async Task<List<Envelope>> ClaimAsync()
    {
        await using var command = _database.CreateCommand(Claim);
        await using var reader = await command.ExecuteReaderAsync();
        var claimed = new List<Envelope>();
        while (await reader.ReadAsync())
        {
            claimed.Add(new Envelope
            {
                Id = reader.GetInt64(0),
                MessageId = reader.GetGuid(1),
                MessageType = reader.GetString(2),
                ContentType = reader.GetString(3),
                Body = reader.GetFieldValue<byte[]>(4),
            });
        }

        return claimed;
    }
}
