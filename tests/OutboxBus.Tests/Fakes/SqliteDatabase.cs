using System.Globalization;
using Microsoft.Data.Sqlite;
using OutboxBus.Sqlite;
using OutboxBus.Storage;

namespace OutboxBus.Tests.Fakes;

/// <summary>A real SQLite database in a file of its own, with everything a test wants to know of its rows.</summary>
internal sealed class SqliteDatabase : IOutboxDatabase, IDisposable
{
    private static readonly TimeSpan FreshRowLease = TimeSpan.FromMinutes(10);

    private readonly string _file = Path.Combine(Path.GetTempPath(), $"outboxbus-{Guid.NewGuid():N}.db");
    private readonly string _connectionString;
    private readonly AdjustableDialect _dialect = new(new SqliteDialect(new OutboxTables()));
    private int _opens;
    private int _hanging;

    public SqliteDatabase()
    {
        _connectionString = new SqliteConnectionStringBuilder { DataSource = _file, DefaultTimeout = 30 }.ConnectionString;
        Execute("pragma journal_mode = wal");
        Execute(_dialect.CreateScript(FreshRowLease));
    }

    public string Key => "Test";

    public SqlDialect Dialect => _dialect;

    /// <summary>Lets single statements fail.</summary>
    public AdjustableDialect Faults => _dialect;

    /// <summary>Set: nobody gets a connection, as if the server were down.</summary>
    public Exception? Down { get; set; }

    /// <summary>Set: whoever asks for a connection waits for ever, deaf to the token, as drivers do when the network hangs.</summary>
    public bool Hangs { get; set; }

    /// <summary>How many wait like that.</summary>
    public int Hanging => Volatile.Read(ref _hanging);

    /// <summary>How often a connection was asked for.</summary>
    public int Opens => Volatile.Read(ref _opens);

    /// <summary>An expression for a fresh message id.</summary>
    public static string NewId => "upper(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(6)))";

    public async Task<IOutboxConnection> OpenAsync(CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _opens);
        if (Down is { } exception)
            throw exception;
        if (Hangs)
        {
            Interlocked.Increment(ref _hanging);
            await new TaskCompletionSource().Task;
        }

        return new Lease(await OpenConnectionAsync());
    }

    public async Task<SqliteConnection> OpenConnectionAsync()
    {
        var connection = new SqliteConnection(_connectionString);
        await connection.OpenAsync();
        return connection;
    }

    /// <summary>Stores an envelope that anybody may claim at once, and gives it its id.</summary>
    public Envelope AddDue(Action<Envelope>? configure = null) => Add(configure, "0");

    /// <summary>Stores an envelope as its own process inserts it: leased for minutes; the envelope knows the lease.</summary>
    public Envelope AddLeased(Action<Envelope>? configure = null)
        => Add(configure, $"cast(unixepoch('subsec') * 1000 as integer) + {(long)FreshRowLease.TotalMilliseconds}");

    /// <summary>The same for many in one commit.</summary>
    public Envelope[] AddManyLeased(int count, int bodyBytes)
    {
        var first = AddLeased(envelope => envelope.Body = new byte[bodyBytes]);
        using var connection = new SqliteConnection(_connectionString);
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"""
            insert into outbox_message (bus, visible_at, created_at, message_id, message_type, content_type, body)
            select bus, visible_at, created_at, {NewId}, message_type, content_type, body
            from outbox_message, (with recursive n(i) as (select 1 union all select i + 1 from n where i < {count - 1}) select i from n)
            where id = {first.Id}
            returning id, message_id
            """;
        var envelopes = new List<Envelope> { first };
        using var reader = command.ExecuteReader();
        while (reader.Read())
        {
            envelopes.Add(new Envelope
            {
                Id = reader.GetInt64(0),
                MessageId = reader.GetGuid(1),
                VisibleAt = first.VisibleAt,
                CreatedAt = first.CreatedAt,
                MessageType = first.MessageType,
                ContentType = first.ContentType,
                Body = first.Body,
            });
        }

        return [.. envelopes];
    }

    /// <summary>Stores an envelope that is to be sent later; the envelope knows when.</summary>
    public Envelope AddDelayed(TimeSpan delay)
    {
        var envelope = Add(null, $"cast(unixepoch('subsec') * 1000 as integer) + {(long)delay.TotalMilliseconds}");
        envelope.DueAt = envelope.VisibleAt;
        return envelope;
    }

    public long Count(string table, string where = "true") => (long)Scalar($"select count(*) from {table} where {where}")!;

    public int OutboxRows => (int)Count("outbox_message");

    public int DeadLetters => (int)Count("outbox_dead_letter");

    public T Read<T>(string sql) => (T)Scalar(sql)!;

    public void Execute(string sql) => Scalar(sql);

    public void Dispose()
    {
        SqliteConnection.ClearPool(new SqliteConnection(_connectionString));
        foreach (var file in new[] { _file, $"{_file}-wal", $"{_file}-shm" })
            File.Delete(file);
    }

    /// <summary>An envelope not stored anywhere.</summary>
    public static Envelope NewEnvelope() => new()
    {
        MessageId = Guid.NewGuid(),
        MessageType = "urn:message:Test:Happened",
        ContentType = "application/json",
        Body = [1, 2, 3],
    };

    private Envelope Add(Action<Envelope>? configure, string visibleAt)
    {
        var envelope = NewEnvelope();
        configure?.Invoke(envelope);
        using var connection = new SqliteConnection(_connectionString);
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"""
            insert into outbox_message (bus, visible_at, attempts, claim_count, message_id, destination, message_type, content_type, headers, properties, body, expires_at)
            values (@bus, {visibleAt}, @attempts, @claims, @message_id, @destination, @type, @content, @headers, @properties, @body, @expires)
            returning id, visible_at, created_at
            """;
        command.Parameters.AddWithValue("bus", envelope.Bus);
        command.Parameters.AddWithValue("attempts", envelope.Attempts);
        command.Parameters.AddWithValue("claims", envelope.ClaimCount);
        command.Parameters.AddWithValue("message_id", envelope.MessageId.ToString().ToUpperInvariant());
        command.Parameters.AddWithValue("destination", (object?)envelope.Destination ?? DBNull.Value);
        command.Parameters.AddWithValue("type", envelope.MessageType);
        command.Parameters.AddWithValue("content", envelope.ContentType);
        command.Parameters.AddWithValue("headers", (object?)envelope.Headers ?? DBNull.Value);
        command.Parameters.AddWithValue("properties", (object?)envelope.Properties ?? DBNull.Value);
        command.Parameters.AddWithValue("body", envelope.Body);
        command.Parameters.AddWithValue("expires", envelope.ExpiresAt is { } time ? (long)(time - DateTime.UnixEpoch).TotalMilliseconds : DBNull.Value);
        using var reader = command.ExecuteReader();
        reader.Read();
        envelope.Id = reader.GetInt64(0);
        envelope.VisibleAt = DateTime.UnixEpoch.AddMilliseconds(reader.GetInt64(1));
        envelope.CreatedAt = DateTime.UnixEpoch.AddMilliseconds(reader.GetInt64(2));
        return envelope;
    }

    private object? Scalar(string sql)
    {
        using var connection = new SqliteConnection(_connectionString);
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        return command.ExecuteScalar();
    }

    public static string Text(Guid id) => string.Create(CultureInfo.InvariantCulture, $"'{id:D}'").ToUpperInvariant();

    private sealed class Lease(SqliteConnection connection) : IOutboxConnection
    {
        public System.Data.Common.DbConnection Connection => connection;

        public ValueTask DisposeAsync() => connection.DisposeAsync();
    }
}
