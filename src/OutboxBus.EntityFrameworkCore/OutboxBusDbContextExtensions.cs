using System.Transactions;
using OutboxBus;
using OutboxBus.EntityFrameworkCore.Publishing;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Transactions that happen once, whatever happens to their commit.</summary>
public static class OutboxBusDbContextExtensions
{
    /// <summary>
    /// Runs an operation in a transaction of its own and commits it once, together with the messages it publishes; they
    /// leave after the commit. A retrying execution strategy of the context, such as <c>EnableRetryOnFailure</c>, repeats
    /// the whole operation; when the connection is lost during COMMIT, a marker row in the inbox table tells whether it
    /// happened, and what has happened is not repeated.
    /// </summary>
    /// <remarks>
    /// The context must track nothing when this is called and tracks nothing when it returns, so that every attempt starts
    /// afresh: the operation loads what it needs. It need not call <c>SaveChanges</c>. Effects outside the transaction may
    /// happen again. A retry waits until the server has decided a commit in doubt. The marker is purged with the inbox, after
    /// <see cref="InboxOptions.Retention"/>.
    /// </remarks>
    /// <param name="context">The context that the scope publishes into: its own, or one enlisted with <c>outbox.Enlist</c>.</param>
    /// <param name="operation">What to do; may run several times.</param>
    /// <param name="cancellationToken">Cancels the operation; not the question whether a commit has happened.</param>
    /// <exception cref="OutboxBusException">
    /// The context has no outbox, or was called inside a message handler, inside another transaction, with tracked entities
    /// or with unsaved messages; nothing was done.
    /// </exception>
    /// <exception cref="Exception">
    /// What the operation or the database threw last, after everything was rolled back. Only if the database could not be
    /// asked after a failed commit either is it unknown whether that happened.
    /// </exception>
    public static Task CommitOnceAsync(this DbContext context, Func<CancellationToken, Task> operation, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(operation);
        return RunAsync(context, operation, cancellationToken);
    }

    /// <summary>The same for an operation with a result: that of the attempt which was committed.</summary>
    /// <inheritdoc cref="CommitOnceAsync(DbContext, Func{CancellationToken, Task}, CancellationToken)" />
    public static async Task<T> CommitOnceAsync<T>(this DbContext context, Func<CancellationToken, Task<T>> operation, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(operation);
        var result = default(T)!;
        // No attempt runs after one that was committed, so the last result is the right one.
        await RunAsync(context, async cancelled => result = await operation(cancelled).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
        return result;
    }

    private static async Task RunAsync(DbContext context, Func<CancellationToken, Task> operation, CancellationToken cancellationToken)
    {
        var outbox = OutboxInterceptor.Of(context) ?? throw new OutboxBusException(
            $"{context.GetType().Name} has no outbox, so it cannot tell whether a commit has happened. Remedy: AddOutboxBus for this context, and take it from the container.");
        var unit = outbox.UnitOfWorkOf(context);
        Check(context, unit);

        var operationId = Guid.CreateVersion7(outbox.Time.GetUtcNow());
        await context.Database.CreateExecutionStrategy().ExecuteAsync(
            cancelled => outbox.Gate.CommitOnceAsync(unit, operationId, () => operation(cancelled), cancelled), cancellationToken).ConfigureAwait(false);
        unit.StartAfresh();
    }

    private static void Check(DbContext context, DbContextUnitOfWork unit)
    {
        var name = context.GetType().Name;
        if (unit.IsInGate)
            throw new OutboxBusException($"CommitOnceAsync was called on {name} inside a message handler or another CommitOnceAsync, whose transaction has the same effect. Remedy: do the work directly.");
        if (context.Database.CurrentTransaction is not null || context.Database.GetEnlistedTransaction() is not null || Transaction.Current is not null)
            throw new OutboxBusException($"CommitOnceAsync was called on {name} while a transaction is open, whose commit it cannot decide about. Remedy: commit that first, or begin no transaction.");
        if (unit.Unsaved.Count > 0)
            throw new OutboxBusException($"CommitOnceAsync was called on {name} with {unit.Unsaved.Count} message(s) published and not saved: a retry would lose them. Remedy: publish inside the operation.");
        if (unit.UnsavedCancellations.Count > 0)
            throw new OutboxBusException($"CommitOnceAsync was called on {name} with {unit.UnsavedCancellations.Count} cancellation(s) not saved: a retry would lose them. Remedy: cancel inside the operation.");
        if (context.ChangeTracker.Entries().FirstOrDefault() is { } tracked)
        {
            throw new OutboxBusException(
                $"CommitOnceAsync was called on {name} while it tracks entities, such as one of type {tracked.Metadata.DisplayName()}: a retry would lose their changes. "
                + "Remedy: load and change entities inside the operation; before it, save changes, then query with AsNoTracking or call ChangeTracker.Clear().");
        }
    }
}
