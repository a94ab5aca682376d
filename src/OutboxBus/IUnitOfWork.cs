using System.Data.Common;

namespace OutboxBus;

/// <summary>
/// The caller's database transaction, as capture and the inbox see it: envelopes are appended to it, and inside a
/// consumer OutboxBus itself begins, flushes and commits it.
/// </summary>
public interface IUnitOfWork
{
    /// <summary>Messages appended whose rows no flush has written yet.</summary>
    IReadOnlyCollection<Envelope> Unsaved { get; }

    /// <summary>Tokens whose scheduled messages no flush has taken back yet.</summary>
    IReadOnlyCollection<Guid> UnsavedCancellations { get; }

    /// <summary>Adds an envelope, to be written with the next flush. May be called by many threads at once.</summary>
    /// <exception cref="OutboxBusException">The unit of work has been sealed.</exception>
    void Append(Envelope envelope);

    /// <summary>
    /// Takes back the messages scheduled with a token: those appended and not yet written at once, those stored with the next
    /// flush, in its transaction and before the envelopes appended meanwhile. May be called by many threads at once.
    /// </summary>
    /// <exception cref="OutboxBusException">The unit of work has been sealed.</exception>
    void Cancel(Guid scheduleToken);

    /// <summary>Runs an operation that owns the transaction, so that the database layer repeats no part of it on its own.</summary>
    Task WithoutRetriesAsync(Func<Task> operation);

    /// <summary>Begins a transaction at READ COMMITTED that only <see cref="CommitAsync"/> or <see cref="RollbackAsync"/> ends.</summary>
    Task BeginAsync(CancellationToken cancellationToken);

    /// <summary>A command on the transaction begun.</summary>
    DbCommand CreateCommand();

    /// <summary>Marks a point in the transaction begun; a mark set before is forgotten.</summary>
    Task MarkAsync(CancellationToken cancellationToken);

    /// <summary>Takes back what was written and appended since the mark, which stays; the transaction goes on, even if a failed statement has aborted it.</summary>
    Task RollbackToMarkAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Writes what is pending, envelopes and cancellations included, then seals the unit of work; true when at least one row
    /// was written or one cancellation run, which proves that the transaction is alive.
    /// </summary>
    /// <param name="record">An inbox record to write together with the rest; null: none.</param>
    /// <param name="cancellationToken">Cancels the writes.</param>
    Task<bool> FlushAsync(InboxMessage? record, CancellationToken cancellationToken);

    /// <summary>Commits, then hands the envelopes to delivery.</summary>
    Task CommitAsync(CancellationToken cancellationToken);

    /// <summary>Ends the transaction without a trace and forgets what was appended since it began. Does not throw.</summary>
    Task RollbackAsync();
}

/// <summary>Finds the unit of work that the current service scope publishes into.</summary>
public interface IUnitOfWorkSource
{
    /// <summary>The unit of work; resolved when first asked for, so that it may itself depend on what asks.</summary>
    IUnitOfWork Current { get; }

    /// <summary>Tokens whose scheduled messages are not yet taken back, of all units of work that the scope has published into; resolves none.</summary>
    IReadOnlyCollection<Guid> UnsavedCancellations { get; }

    /// <summary>Messages not yet written of all units of work that the scope has published into; resolves none.</summary>
    IReadOnlyCollection<Envelope> Unsaved { get; }
}
