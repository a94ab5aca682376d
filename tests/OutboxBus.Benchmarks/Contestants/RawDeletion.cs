using System.Threading.Channels;
using Npgsql;

namespace OutboxBus.Benchmarks.Contestants;

// Deletes rows by id, up to a thousand at a time, what has gathered in 50 ms.
internal sealed class RawDeletion(string connectionString) : IAsyncDisposable
{
    private const int BatchSize = 1000;
    private static readonly TimeSpan s_delay = TimeSpan.FromMilliseconds(50);

    private readonly Channel<long> _ids = Channel.CreateUnbounded<long>();
    private readonly NpgsqlDataSource _database = NpgsqlDataSource.Create(connectionString);
    private Task _running = Task.CompletedTask;

    public void Start() => _running = Task.Run(RunAsync);

    public void Add(long id) => _ids.Writer.TryWrite(id);

    public async ValueTask DisposeAsync()
    {
        _ids.Writer.TryComplete();
        await _running;
        await _database.DisposeAsync();
    }

    private async Task RunAsync()
    {
        while (await _ids.Reader.WaitToReadAsync())
        {
            if (_ids.Reader.Count < BatchSize)
                await Task.Delay(s_delay);
            var batch = new List<long>(BatchSize);
            while (batch.Count < BatchSize && _ids.Reader.TryRead(out var id))
                batch.Add(id);
            batch.Sort();
            await using var command = _database.CreateCommand("delete from outbox_message where id = any($1)");
            command.Parameters.Add(new NpgsqlParameter<long[]> { TypedValue = [.. batch] });
            await command.ExecuteNonQueryAsync();
        }
    }
}
