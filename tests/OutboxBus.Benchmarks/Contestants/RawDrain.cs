using Npgsql;

namespace OutboxBus.Benchmarks.Contestants;

// Claims the next thousand while the last are on their way; what is confirmed is deleted.
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
    private readonly RawChannel _broker = new(stage.VirtualHost, exchange);
    private readonly RawDeletion _deletion = new(stage.ConnectionString);
    private Task _running = Task.CompletedTask;

    public async Task StartAsync()
    {
        await _broker.OpenAsync();
        _deletion.Start();
        _running = Task.Run(RunAsync);
    }

    public async ValueTask DisposeAsync()
    {
        await _running;
        await _broker.DrainAsync();
        await _deletion.DisposeAsync();
        await _broker.DisposeAsync();
        await _database.DisposeAsync();
    }

    private async Task RunAsync()
    {
        for (var claiming = ClaimAsync(); await claiming is { Count: > 0 } claimed;)
        {
            claiming = ClaimAsync();
            foreach (var envelope in claimed)
                await _broker.SendAsync(envelope, _deletion.Add);
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
