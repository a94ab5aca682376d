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

    /// <summary>
    /// Runs the handler unless the message, or every message of a batch, has been consumed; returns when that is committed.
    /// </summary>
    /// <param name="unit">The unit of work.</param>
    /// <param name="keys">One key for each message.</param>
    /// <param name="handle">Handles the messages whose keys it is given: those not consumed before.</param>
    /// <param name="cancellationToken">Cancels the attempt.</param>
    /// <exception cref="Exception">Whatever the handler or the database threw, after the transaction was rolled back.</exception>
    public async Task<ConsumeOutcome> ConsumeOnceAsync(IUnitOfWork unit, IReadOnlyList<InboxKey> keys, Func<IReadOnlyCollection<InboxKey>, Task> handle, CancellationToken cancellationToken)
    {
        // A batch may be a duplicate in part, which only the records, inserted first, can tell.
        var mode = keys.Count == 1 ? options.Mode : InboxMode.First;
        IReadOnlyCollection<InboxKey> consumed = [];
        var outcome = await TakeTurnAsync(() => RunOnceAsync(unit, keys, mode, fresh => handle(consumed = fresh), cancellationToken), cancellationToken);
        if (outcome == ConsumeOutcome.Duplicate)
            consumed = [];
        foreach (var key in keys)
        {
            var isDuplicate = !consumed.Contains(key);
            metrics.Consumed(isDuplicate);
            if (isDuplicate)
                logger.Duplicate(key.MessageId, key.Consumer);
        }

        if (outcome == ConsumeOutcome.Consumed)
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
        return RunOnceAsync(unit, [new InboxKey(operationId, Operation)], InboxMode.First, _ => operation(), cancellationToken);
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

    private async Task<ConsumeOutcome> RunOnceAsync(
        IUnitOfWork unit, IReadOnlyList<InboxKey> keys, InboxMode mode, Func<IReadOnlyCollection<InboxKey>, Task> run, CancellationToken cancellationToken)
    {
        IReadOnlyList<InboxKey> fresh = keys;
        try
        {
            if (mode == InboxMode.Last)
                await unit.BeginAsync(cancellationToken);
            else
                fresh = await BeginAndRecordAsync(unit, keys, cancellationToken);
            if (fresh.Count == 0)
            {
                await unit.RollbackAsync();
                return ConsumeOutcome.Duplicate;
            }

            await run(fresh);

            var record = mode == InboxMode.Last ? new InboxMessage { MessageId = keys[0].MessageId, Consumer = keys[0].Consumer, Generation = keys[0].Generation } : null;
            // A handler may have swallowed an error that aborted the transaction; PostgreSQL would answer COMMIT with a silent ROLLBACK.
            if (!await unit.FlushAsync(record, cancellationToken))
                await ProveAliveAsync(unit, cancellationToken);
        }
        catch
        {
            await unit.RollbackAsync();
            // A copy fails in many ways: at the record, at a unique row or a version of the handler's own, or as the handler finds its work done.
            if (mode == InboxMode.Last && !cancellationToken.IsCancellationRequested && await HasHappenedAsync(keys[0], cancellationToken))
                return ConsumeOutcome.Duplicate;
            throw;
        }

        await CommitAsync(unit, fresh, cancellationToken);
        return ConsumeOutcome.Consumed;
    }

    /// <summary>Inserts the inbox records first, so that a concurrent copy waits here and is never acknowledged while in doubt; returns those that were not there.</summary>
    private async Task<IReadOnlyList<InboxKey>> BeginAndRecordAsync(IUnitOfWork unit, IReadOnlyList<InboxKey> keys, CancellationToken cancellationToken)
    {
        var started = time.GetTimestamp();
        while (true)
        {
            await unit.BeginAsync(cancellationToken);
            try
            {
                return await RecordAsync(unit, keys, cancellationToken);
            }
            catch (Exception exception) when (_store.Classify(exception) == DatabaseError.Contention && !cancellationToken.IsCancellationRequested)
            {
                // Another copy is being handled and takes its time. No handler has run here, so waiting again is safe.
                await unit.RollbackAsync();
                logger.WaitingForCopy(keys[0].MessageId, keys[0].Consumer, time.GetElapsedTime(started));
                // The application may have set a short lock timeout of its own.
                await Task.Delay(PauseBetweenWaits, time, cancellationToken);
            }
        }
    }

    private async Task<IReadOnlyList<InboxKey>> RecordAsync(IUnitOfWork unit, IReadOnlyList<InboxKey> keys, CancellationToken cancellationToken)
    {
        await using var command = unit.CreateCommand();
        command.CommandTimeout = WaitSeconds;
        if (keys.Count == 1)
        {
            database.Dialect.RecordConsumed(command, keys[0]);
            return await command.ExecuteNonQueryAsync(cancellationToken) > 0 ? keys : [];
        }

        // In one order: batches that share messages wait for each other, but not in a circle.
        database.Dialect.RecordBatchConsumed(command, [.. keys.OrderBy(key => key.MessageId).ThenBy(key => key.Generation)]);
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var recorded = new HashSet<InboxKey>();
        while (await reader.ReadAsync(cancellationToken))
            recorded.Add(new InboxKey(reader.GetGuid(0), reader.GetString(1), reader.GetInt32(2)));
        return [.. keys.Where(recorded.Contains)];
    }

    private async Task ProveAliveAsync(IUnitOfWork unit, CancellationToken cancellationToken)
    {
        await using var command = unit.CreateCommand();
        command.CommandText = database.Dialect.ProbeStatement;
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private async Task CommitAsync(IUnitOfWork unit, IReadOnlyList<InboxKey> keys, CancellationToken cancellationToken)
    {
        try
        {
            await unit.CommitAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            await unit.RollbackAsync();
            // Of a batch every record: one alone may be that of another batch, which had waited for this one to end.
            foreach (var key in keys)
            {
                if (!await HasHappenedAsync(key, CancellationToken.None))
                    throw;
            }

            logger.CommitWasDone(keys[0].MessageId, keys[0].Consumer, exception);
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
