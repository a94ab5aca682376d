using System.Data;
using System.Data.Common;
using OutboxBus.Delivery;

namespace OutboxBus.Storage;

/// <summary>Runs a dialect's statements, each on a connection of its own.</summary>
internal sealed class OutboxStore(IOutboxDatabase database)
{
    public string DatabaseKey => database.Key;

    private SqlDialect Dialect => database.Dialect;

    /// <summary>Claims due envelopes and returns them in the order of their ids.</summary>
    /// <param name="bus">The bus.</param>
    /// <param name="limit">How many at most.</param>
    /// <param name="lease">For how long.</param>
    /// <param name="cancellationToken">The token.</param>
    /// <param name="unreadable">Takes the ids of rows whose keys cannot be read: they hold up nobody, and nothing but their lease can be changed.</param>
    /// <param name="within">Only rows that have become claimable within this time; null: all.</param>
    public async Task<IReadOnlyList<Envelope>> ClaimAsync(
        string bus, int limit, TimeSpan lease, CancellationToken cancellationToken, ICollection<long>? unreadable = null, TimeSpan? within = null)
    {
        var rows = await QueryAsync(
            command => Dialect.Claim(command, bus, limit, lease, within),
            reader => (Id: reader.GetInt64(0), Envelope: EnvelopeReader.Read(reader, Dialect)),
            cancellationToken);
        var claimed = new List<Envelope>(rows.Count);
        foreach (var (id, envelope) in rows)
        {
            if (envelope is null)
                unreadable?.Add(id);
            else
                claimed.Add(envelope);
        }

        claimed.Sort((left, right) => left.Id.CompareTo(right.Id));
        return claimed;
    }

    /// <summary>Notes in the row that it is now sent alone; see <see cref="DeliveryPolicy.WithLoneSend"/>.</summary>
    public async Task MarkSentAloneAsync(Envelope envelope, CancellationToken cancellationToken)
    {
        await using var lease = await OpenAsync(cancellationToken);
        await ExecuteAsync(lease.Connection, null, command => Dialect.SetClaimCount(command, envelope, DeliveryPolicy.WithLoneSend(envelope.ClaimCount)), cancellationToken);
    }

    /// <summary>Those of the envelopes that are committed and still as they were inserted.</summary>
    public async Task<IReadOnlyList<Envelope>> VerifyAsync(IReadOnlyList<Envelope> envelopes, CancellationToken cancellationToken)
    {
        var stored = await QueryAsync(
            command => Dialect.Verify(command, envelopes),
            reader => (Id: reader.GetInt64(0), MessageId: reader.GetGuid(1), VisibleAt: Dialect.ReadTime(reader, 2)),
            cancellationToken);
        var found = stored.ToHashSet();
        return [.. envelopes.Where(envelope => found.Contains((envelope.Id, envelope.MessageId, envelope.VisibleAt)))];
    }

    /// <summary>Writes verdicts.</summary>
    /// <param name="batch">The verdicts.</param>
    /// <param name="cancellationToken">Cancels the statements.</param>
    /// <param name="onBuried">Told of each envelope that is now a dead letter, and not of those that another process has claimed since.</param>
    public async Task SettleAsync(SettlementBatch batch, CancellationToken cancellationToken, Action<Burial>? onBuried = null)
    {
        await using var lease = await OpenAsync(cancellationToken);
        var connection = lease.Connection;
        if (batch.Completed.Count > 0)
            await ExecuteAsync(connection, null, command => Dialect.Complete(command, batch.Completed), cancellationToken);
        if (batch.Rescheduled.Count > 0)
            await ExecuteAsync(connection, null, command => Dialect.Reschedule(command, batch.Rescheduled), cancellationToken);
        foreach (var burial in batch.Buried)
        {
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            var rows = await ExecuteAsync(connection, transaction, command => Dialect.Bury(command, burial), cancellationToken);
            await transaction.CommitAsync(cancellationToken);
            if (rows > 0)
                onBuried?.Invoke(burial);
        }
    }

    public async Task<bool> IsConsumedAsync(InboxKey key, CancellationToken cancellationToken)
    {
        var rows = await QueryAsync(command => Dialect.FindConsumed(command, key), static _ => true, cancellationToken);
        return rows.Count > 0;
    }

    /// <summary>
    /// Whether the record exists, found out by inserting it and rolling back: unlike a read, that waits for a transaction
    /// which is about to decide, such as one whose COMMIT the server is still executing.
    /// </summary>
    public async Task<bool> HasHappenedAsync(InboxKey key, int waitSeconds, CancellationToken cancellationToken)
    {
        await using var lease = await database.OpenAsync(cancellationToken);
        await using var transaction = await lease.Connection.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellationToken);
        await using var command = lease.Connection.CreateCommand();
        command.Transaction = transaction;
        command.CommandTimeout = waitSeconds;
        Dialect.RecordConsumed(command, key);
        return await command.ExecuteNonQueryAsync(cancellationToken) == 0;
    }

    /// <summary>Deletes the inbox records of a message, of one consumer or of all, and returns how many.</summary>
    public async Task<int> ForgetConsumedAsync(Guid messageId, string? consumer, CancellationToken cancellationToken)
    {
        await using var lease = await database.OpenAsync(cancellationToken);
        return await ExecuteAsync(lease.Connection, null, command => Dialect.ForgetConsumed(command, messageId, consumer), cancellationToken);
    }

    /// <summary>Deletes one batch of inbox records past retention and returns how many.</summary>
    public async Task<int> PurgeInboxAsync(TimeSpan retention, int limit, CancellationToken cancellationToken)
    {
        await using var lease = await OpenAsync(cancellationToken);
        return await ExecuteAsync(lease.Connection, null, command => Dialect.PurgeInbox(command, retention, limit), cancellationToken);
    }

    public async Task<OutboxStatus> StatusAsync(string bus, int countLimit, CancellationToken cancellationToken)
    {
        var rows = await QueryAsync(
            command => Dialect.Status(command, bus, countLimit),
            reader => new OutboxStatus(
                reader.GetInt64(0),
                reader.IsDBNull(1) ? null : TimeSpan.FromSeconds(Math.Max(0, reader.GetDouble(1))),
                reader.GetInt64(2)),
            cancellationToken);
        return rows[0];
    }

    /// <summary>Checks that every table and column exists.</summary>
    /// <exception cref="OutboxBusException">One is missing; the message names the remedy.</exception>
    public async Task CheckSchemaAsync(CancellationToken cancellationToken)
    {
        try
        {
            await using var lease = await database.OpenAsync(cancellationToken);
            await using var command = lease.Connection.CreateCommand();
            Dialect.CheckSchema(command);
            await using var reader = await command.ExecuteReaderAsync(cancellationToken);
            // SQLite's driver prepares the next query only when its result is asked for.
            while (await reader.NextResultAsync(cancellationToken))
            {
            }
        }
        catch (Exception exception) when (Classify(exception) == DatabaseError.MissingSchema)
        {
            throw new OutboxBusException(
                $"The OutboxBus tables are missing or incomplete in the {Dialect.Engine} database of {database.Key}: {exception.Message.Split('\n', '\r')[0]}. "
                + "Remedy: check that OnModelCreating calls modelBuilder.AddOutboxBus(Database), then add and apply a migration "
                + $"(dotnet ef migrations add AddOutboxBus; dotnet ef database update), or run the script that CreateScript of {Dialect.GetType().FullName} returns.",
                exception);
        }
    }

    /// <summary>What an error means; EF Core and other layers wrap the driver's exception.</summary>
    public DatabaseError Classify(Exception exception)
    {
        for (var current = exception; current is not null; current = current.InnerException)
        {
            if (current is NoConnectionException)
                return DatabaseError.Unavailable;
            var error = Dialect.Classify(current);
            if (error != DatabaseError.Other)
                return error;
        }

        return DatabaseError.Other;
    }

    /// <summary>Whether an error says that the database cannot be asked at all now, or no more than that it refuses what it was asked.</summary>
    public bool IsAway(Exception exception) => Classify(exception) is DatabaseError.Unavailable or DatabaseError.Contention;

    private async Task<IOutboxConnection> OpenAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await database.OpenAsync(cancellationToken);
        }
        catch (Exception exception) when (exception is not OutboxBusException && !cancellationToken.IsCancellationRequested)
        {
            throw new NoConnectionException(exception);
        }
    }

    private async Task<List<T>> QueryAsync<T>(Action<DbCommand> bind, Func<DbDataReader, T> read, CancellationToken cancellationToken)
    {
        await using var lease = await OpenAsync(cancellationToken);
        await using var command = lease.Connection.CreateCommand();
        bind(command);
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var rows = new List<T>();
        while (await reader.ReadAsync(cancellationToken))
            rows.Add(read(reader));
        return rows;
    }

    private static async Task<int> ExecuteAsync(DbConnection connection, DbTransaction? transaction, Action<DbCommand> bind, CancellationToken cancellationToken)
    {
        await using var command = connection.CreateCommand();
        command.Transaction = transaction;
        bind(command);
        return await command.ExecuteNonQueryAsync(cancellationToken);
    }
}

/// <summary>No connection was to be had, whatever the reason: a server that is away, a password just changed, a pool used up. It says nothing of any statement.</summary>
internal sealed class NoConnectionException(Exception reason) : Exception("No connection to the database could be opened.", reason);

/// <summary>How an outbox stands. Counts stop at the limit that was asked for.</summary>
/// <param name="Pending">The envelopes due for sending.</param>
/// <param name="OldestPending">The time since the oldest of them became due; null: there is none.</param>
/// <param name="DeadLetters">The envelopes given up.</param>
internal sealed record OutboxStatus(long Pending, TimeSpan? OldestPending, long DeadLetters);
