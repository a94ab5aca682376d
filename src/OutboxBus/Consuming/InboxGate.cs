using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Consuming;

/// <summary>
/// Makes a transaction happen once: the record that it happened, the changes of a handler or operation and the messages it
/// publishes are one transaction. The whole protocol is <see cref="RunOnceAsync"/>.
/// </summary>
internal sealed class InboxGate(IOutboxDatabase database, InboxOptions options, OutboxMetrics metrics, FaultPoints faults, TimeProvider time, ILogger<InboxGate> logger) : IDisposable
{
    // In the place of a consumer: the record is about an operation of the application, not about a message.
    private const string Operation = "$commit";

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
        var outcome = await TakeTurnAsync(() => RunOnceAsync(unit, key, options.Mode, handle, cancellationToken), cancellationToken);
        metrics.Consumed(duplicate: outcome == ConsumeOutcome.Duplicate);
        if (outcome == ConsumeOutcome.Duplicate)
            logger.Duplicate(key.MessageId, key.Consumer);
        else
            await faults.ReachAsync(FaultPoint.AfterConsume, null);
        return outcome;
    }

    /// <summary>
    /// Runs one attempt at an operation of the application unless an earlier attempt was committed, which may have reported
    /// an error all the same; returns when one of them is.
    /// </summary>
    /// <param name="unit">The unit of work.</param>
    /// <param name="operationId">The same for every attempt.</param>
    /// <param name="operation">What to do in the transaction.</param>
    /// <param name="cancellationToken">Cancels the attempt.</param>
    /// <exception cref="Exception">Whatever the operation or the database threw, after the transaction was rolled back.</exception>
    public Task CommitOnceAsync(IUnitOfWork unit, Guid operationId, Func<Task> operation, CancellationToken cancellationToken)
    {
        // The record first: if the commit of an earlier attempt is still under way on the server, this one waits for it.
        return RunOnceAsync(unit, new InboxKey(operationId, Operation), InboxMode.First, operation, cancellationToken);
    }

    private async Task<ConsumeOutcome> TakeTurnAsync(Func<Task<ConsumeOutcome>> consume, CancellationToken cancellationToken)
    {
        if (!database.Dialect.HasSingleWriter)
            return await consume();

        // SQLite's driver would block a thread for each consumer that waits to begin.
        await _turn.WaitAsync(cancellationToken);
        try
        {
            return await consume();
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task<ConsumeOutcome> RunOnceAsync(IUnitOfWork unit, InboxKey key, InboxMode mode, Func<Task> run, CancellationToken cancellationToken)
    {
        try
        {
            if (mode == InboxMode.Last)
            {
                await unit.BeginAsync(cancellationToken);
            }
            else if (!await BeginAndRecordAsync(unit, key, cancellationToken))
            {
                await unit.RollbackAsync();
                return ConsumeOutcome.Duplicate;
            }

            await run();

            var record = mode == InboxMode.Last ? new InboxMessage { MessageId = key.MessageId, Consumer = key.Consumer, Generation = key.Generation } : null;
            // A handler may have swallowed an error that aborted the transaction; PostgreSQL would answer COMMIT with a silent ROLLBACK.
            if (!await unit.FlushAsync(record, cancellationToken))
                await ProveAliveAsync(unit, cancellationToken);
        }
        catch
        {
            await unit.RollbackAsync();
            // A copy fails in many ways: at the record, at a unique row or a version of the handler's own, or as the handler finds its work done.
            if (mode == InboxMode.Last && !cancellationToken.IsCancellationRequested && await HasHappenedAsync(key, cancellationToken))
                return ConsumeOutcome.Duplicate;
            throw;
        }

        await CommitAsync(unit, key, cancellationToken);
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
            if (!await HasHappenedAsync(key, CancellationToken.None))
                throw;
            logger.CommitWasDone(key.MessageId, key.Consumer, exception);
        }
    }

    /// <summary>After an error: the record tells whether this or another transaction has done it.</summary>
    private async Task<bool> HasHappenedAsync(InboxKey key, CancellationToken cancellationToken)
    {
        try
        {
            return await _store.HasHappenedAsync(key, WaitSeconds, cancellationToken);
        }
        catch (Exception exception) when (_store.Classify(exception) != DatabaseError.MissingSchema)
        {
            // Unknown still; the record decides when the message is delivered again or the operation is retried.
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
