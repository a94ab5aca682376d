using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Consuming;

/// <summary>
/// Consumes a message once: the record that it was consumed, the handler's changes and the messages it publishes are one
/// transaction. The whole protocol is <see cref="ConsumeInTransactionAsync"/>.
/// </summary>
internal sealed class InboxGate(IOutboxDatabase database, OutboxMetrics metrics, FaultPoints faults, TimeProvider time, ILogger<InboxGate> logger) : IDisposable
{
    // How long one statement waits for a concurrent copy before it says so and waits again.
    private const int WaitSeconds = 30;

    private static readonly TimeSpan PauseBetweenWaits = TimeSpan.FromMilliseconds(500);

    private readonly OutboxStore _store = new(database);
    private readonly SemaphoreSlim _turn = new(1, 1);

    public void Dispose() => _turn.Dispose();

    /// <summary>Runs the handler unless the message has been consumed; returns when that is committed.</summary>
    /// <exception cref="Exception">Whatever the handler or the database threw, after the transaction was rolled back.</exception>
    public async Task<ConsumeOutcome> ConsumeOnceAsync(IUnitOfWork unit, InboxKey key, Func<Task> handle, CancellationToken cancellationToken)
    {
        if (!database.Dialect.HasSingleWriter)
            return await ConsumeInTransactionAsync(unit, key, handle, cancellationToken);

        // SQLite's driver would block a thread for each consumer that waits to begin.
        await _turn.WaitAsync(cancellationToken);
        try
        {
            return await ConsumeInTransactionAsync(unit, key, handle, cancellationToken);
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task<ConsumeOutcome> ConsumeInTransactionAsync(IUnitOfWork unit, InboxKey key, Func<Task> handle, CancellationToken cancellationToken)
    {
        try
        {
            if (!await BeginAndRecordAsync(unit, key, cancellationToken))
            {
                await unit.RollbackAsync();
                logger.Duplicate(key.MessageId, key.Consumer);
                metrics.Consumed(duplicate: true);
                return ConsumeOutcome.Duplicate;
            }

            await handle();

            // A handler may have swallowed an error that aborted the transaction; PostgreSQL would answer COMMIT with a silent ROLLBACK.
            if (!await unit.FlushAsync(cancellationToken))
                await ProveAliveAsync(unit, cancellationToken);
        }
        catch
        {
            await unit.RollbackAsync();
            throw;
        }

        await CommitAsync(unit, key, cancellationToken);
        metrics.Consumed(duplicate: false);
        await faults.ReachAsync(FaultPoint.AfterConsume, null);
        return ConsumeOutcome.Consumed;
    }

    /// <summary>Inserts the inbox record first, so that a concurrent copy waits here and is never acknowledged while in doubt.</summary>
    private async Task<bool> BeginAndRecordAsync(IUnitOfWork unit, InboxKey key, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        while (true)
        {
            await unit.BeginAsync(cancellationToken);
            try
            {
                await using var command = unit.CreateCommand();
                database.Dialect.RecordConsumed(command, key);
                command.CommandTimeout = WaitSeconds;
                return await command.ExecuteNonQueryAsync(cancellationToken) > 0;
            }
            catch (Exception exception) when (_store.Classify(exception) == DatabaseError.Contention && !cancellationToken.IsCancellationRequested)
            {
                // Another copy is being handled and takes its time. No handler has run here, so waiting again is safe.
                await unit.RollbackAsync();
                logger.WaitingForCopy(key.MessageId, key.Consumer, time.GetElapsedTime(started));
                // The application may have set a short lock timeout of its own.
                await Task.Delay(PauseBetweenWaits, time, cancellationToken);
            }
        }
    }

    private async Task ProveAliveAsync(IUnitOfWork unit, CancellationToken cancellationToken)
    {
        await using var command = unit.CreateCommand();
        command.CommandText = database.Dialect.ProbeStatement;
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private async Task CommitAsync(IUnitOfWork unit, InboxKey key, CancellationToken cancellationToken)
    {
        try
        {
            await unit.CommitAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            await unit.RollbackAsync();
            if (!await WasCommittedAsync(key))
                throw;
            logger.CommitWasDone(key.MessageId, key.Consumer, exception);
        }
    }

    /// <summary>After a commit that reported an error: the inbox record tells whether it happened.</summary>
    private async Task<bool> WasCommittedAsync(InboxKey key)
    {
        try
        {
            return await _store.IsConsumedAsync(key, CancellationToken.None);
        }
        catch (Exception exception) when (_store.Classify(exception) != DatabaseError.MissingSchema)
        {
            // Unknown still; the message is delivered again and the inbox decides then.
            return false;
        }
    }
}

/// <summary>What became of a delivery at the inbox.</summary>
internal enum ConsumeOutcome
{
    /// <summary>The handler has run and its transaction is committed.</summary>
    Consumed,

    /// <summary>The message had been consumed before; nothing was done.</summary>
    Duplicate,
}
