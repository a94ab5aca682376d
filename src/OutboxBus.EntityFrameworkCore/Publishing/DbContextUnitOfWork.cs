using System.Data;
using System.Data.Common;
using System.Transactions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Storage;
using OutboxBus.Delivery;
using OutboxBus.Publishing;
using IsolationLevel = System.Data.IsolationLevel;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// The unit of work of one DbContext. Outside a consumer the envelopes ride whichever <c>SaveChanges</c> comes next;
/// inside a consumer they wait for the gate's own last flush, so that no savepoint of the handler can take them back.
/// </summary>
internal sealed class DbContextUnitOfWork(DbContext context, HandOff handOff, TimeProvider time) : IUnitOfWork
{
    private const int MaxSavesPerFlush = 10;

    private readonly PendingEnvelopes _pending = new();

    // In the change tracker, not yet seen to be saved.
    private readonly List<Envelope> _tracked = [];

    // Saved inside a transaction that has not ended.
    private readonly List<Envelope> _awaitingCommit = [];

    // Those of them that were saved with acceptAllChangesOnSuccess: false, which means: save again if the transaction comes to nothing.
    private readonly List<Envelope> _unaccepted = [];
    private Guid _awaitedTransaction;

    // Appended before the gate began, by a filter outside it: not the failed handler's to take along.
    private IReadOnlyList<Envelope> _beforeGate = [];
    private IDbContextTransaction? _gate;

    // To be inserted by the flush, and not yet seen to be.
    private InboxMessage? _record;
    private bool _flushing;
    private volatile bool _saving;
    private bool _commitIsEvident;
    private bool _atomicityIsOff;
    private bool _rowsWritten;
    private long _savedFrom;

    /// <summary>Which use of a pooled context this belongs to.</summary>
    public int Lease { get; } = context.ContextId.Lease;

    public IReadOnlyCollection<Envelope> Unsaved => [.. _tracked, .. _pending.Snapshot()];

    /// <summary>Whether a transaction of the inbox gate is open.</summary>
    public bool IsInGate => _gate is not null;

    /// <summary>Whether envelopes are saved in a transaction that has not ended.</summary>
    public bool AwaitsCommit => _awaitingCommit.Count > 0;

    public void Append(Envelope envelope)
    {
        lock (_tracked)
        {
            _pending.Add(envelope);
            // Published by an interceptor of the application that runs after ours: still in time for this save.
            if (_saving)
                Track();
        }
    }

    public Task WithoutRetriesAsync(Func<Task> operation)
        => new SingleAttemptStrategy(context).ExecuteAsync(operation, static (_, run, _) => RunAsync(run), null, CancellationToken.None);

    public async Task BeginAsync(CancellationToken cancellationToken)
    {
        _beforeGate = _pending.Snapshot();
        _pending.Restart(_beforeGate);
        _gate = await context.Database.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellationToken).ConfigureAwait(false);
    }

    public DbCommand CreateCommand()
    {
        var command = context.Database.GetDbConnection().CreateCommand();
        command.Transaction = _gate!.GetDbTransaction();
        return command;
    }

    public async Task<bool> FlushAsync(InboxMessage? record, CancellationToken cancellationToken)
    {
        if (context.Database.CurrentTransaction != _gate)
        {
            throw new OutboxBusException(
                $"The handler or operation has ended the transaction of {context.GetType().Name} in which it runs. Leave commit and rollback to OutboxBus; throw to roll back. "
                + "What it has committed stays, and the messages it published are lost.");
        }

        // A savepoint would cost two round trips and protect nothing: if this flush fails, everything is rolled back.
        var savepoints = context.Database.AutoSavepointsEnabled;
        context.Database.AutoSavepointsEnabled = false;
        _flushing = true;
        _rowsWritten = false;
        // With the first save: a copy finds out, or waits, before anything else is written.
        _record = record;
        if (record is not null)
            context.Add(record);
        try
        {
            // Interceptors may publish after the rows of a save are written: those messages need one more.
            for (var saves = 0; saves == 0 || _record is not null || _tracked.Count > 0 || !_pending.TrySeal(); saves++)
            {
                if (saves == MaxSavesPerFlush)
                {
                    throw new OutboxBusException(
                        $"{Unsaved.Count} message(s) published by the handler, or its inbox record, were not saved by {saves} SaveChanges of {context.GetType().Name}. "
                        + "Either its SaveChanges is suppressed, or each save publishes again.");
                }

                await context.SaveChangesAsync(cancellationToken).ConfigureAwait(false);
            }

            return _rowsWritten;
        }
        finally
        {
            _flushing = false;
            context.Database.AutoSavepointsEnabled = savepoints;
        }
    }

    public async Task CommitAsync(CancellationToken cancellationToken)
    {
        await _gate!.CommitAsync(cancellationToken).ConfigureAwait(false);
        await _gate.DisposeAsync().ConfigureAwait(false);
        _gate = null;
    }

    public async Task RollbackAsync()
    {
        var gate = _gate;
        _gate = null;
        _record = null;
        _saving = false;
        _pending.Restart(_beforeGate);
        _tracked.Clear();
        _awaitingCommit.Clear();
        _unaccepted.Clear();
        context.ChangeTracker.Clear();
        if (gate is null)
            return;
        try
        {
            await gate.RollbackAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is DbException or InvalidOperationException or IOException or TimeoutException)
        {
            // The transaction is gone already, or the connection is: either way the server rolls it back.
        }

        await gate.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>After the gate's commit: publishes are welcome again, and nothing is tracked, however the commit was found to have happened.</summary>
    public void StartAfresh()
    {
        _pending.Restart([]);
        context.ChangeTracker.Clear();
    }

    /// <summary>SaveChanges begins: the pending envelopes go with it.</summary>
    public void Saving()
    {
        if (_gate is not null && !_flushing)
            return;

        ForgetEndedTransaction();
        var database = context.Database;
        var hasTransaction = database.CurrentTransaction is not null || database.GetEnlistedTransaction() is not null || Transaction.Current is not null;
        // Only then can nothing but EF Core itself decide about the commit: a raw BEGIN needs an open connection.
        _commitIsEvident = !hasTransaction && database.GetDbConnection().State == ConnectionState.Closed;
        _atomicityIsOff = !hasTransaction && database.AutoTransactionBehavior == AutoTransactionBehavior.Never;
        // Of several saves in one transaction the first: no row's lease may be taken to last longer than it does.
        if (_awaitingCommit.Count == 0)
            _savedFrom = time.GetTimestamp();
        lock (_tracked)
        {
            Track();
            _saving = true;
        }
    }

    /// <summary>SaveChanges has ended, one way or the other.</summary>
    public void SaveEnded() => _saving = false;

    /// <summary>SaveChanges has succeeded; returns how many of its rows were envelopes or the inbox record.</summary>
    public int Saved(int rows)
    {
        if (_gate is not null && !_flushing)
            return 0;

        _saving = false;
        _rowsWritten |= rows > 0;
        var records = DetachRecord();
        // What the application has removed from the change tracker, or published too late for this save, was not saved and stays known as such.
        var saved = _tracked.Where(WasInserted).ToList();
        if (saved.Count == 0)
            return records;

        _tracked.RemoveAll(saved.Contains);
        var unaccepted = saved.Where(envelope => context.Entry(envelope).State == EntityState.Added).ToList();
        foreach (var envelope in saved)
            Detach(context.Entry(envelope));

        if (context.Database.CurrentTransaction is { } transaction)
        {
            _awaitedTransaction = transaction.TransactionId;
            _awaitingCommit.AddRange(saved);
            _unaccepted.AddRange(unaccepted);
        }
        else if (Transaction.Current is { } ambient)
        {
            var savedFrom = _savedFrom;
            ambient.TransactionCompleted += (_, _) => handOff.Offer(saved, CommitCertainty.Unverified, savedFrom);
        }
        else
        {
            handOff.Offer(saved, _commitIsEvident ? CommitCertainty.Proven : CommitCertainty.Unverified, _savedFrom);
        }

        return saved.Count + records;
    }

    /// <summary>The context's transaction has committed.</summary>
    public void Committed()
    {
        if (_awaitingCommit.Count == 0)
            return;
        var committed = _awaitingCommit.ToList();
        _awaitingCommit.Clear();
        _unaccepted.Clear();
        // The gate's envelopes are written by its last flush: nothing can have rolled them back since.
        handOff.Offer(committed, _gate is not null ? CommitCertainty.Proven : CommitCertainty.Unverified, _savedFrom);
    }

    /// <summary>The context's transaction has rolled back: its envelopes never existed. Unaccepted ones are saved again, as the caller's own rows are.</summary>
    public void RolledBack()
    {
        _awaitingCommit.Clear();
        foreach (var envelope in _unaccepted)
        {
            // The next insert gives it a key, a time and, unless it has a due time or waits for others, a lease anew.
            if (envelope.DueAt is null && envelope.VisibleAt > envelope.CreatedAt)
                envelope.VisibleAt = default;
            envelope.Id = 0;
            envelope.CreatedAt = default;
            _pending.Add(envelope);
        }

        _unaccepted.Clear();
    }

    /// <summary>Whether the database has answered for a row.</summary>
    private bool WasInserted(Envelope envelope)
        => context.Entry(envelope) is { State: not EntityState.Detached } entry && entry.Property(row => row.CreatedAt).CurrentValue != default;

    private int DetachRecord()
    {
        if (_record is null || context.Entry(_record) is not { State: not EntityState.Detached } entry || entry.Property(row => row.ConsumedAt).CurrentValue == default)
            return 0;
        entry.State = EntityState.Detached;
        _record = null;
        return 1;
    }

    private void Track()
    {
        if (_atomicityIsOff && _pending.Snapshot().Count > 0)
        {
            throw new OutboxBusException(
                "A message was published into a DbContext whose AutoTransactionBehavior is Never, and no transaction is open: business data and message would not be atomic. "
                + "Begin a transaction around SaveChanges, or set AutoTransactionBehavior to WhenNeeded.");
        }

        foreach (var envelope in _pending.Take())
        {
            context.Add(envelope);
            _tracked.Add(envelope);
        }
    }

    /// <summary>A transaction disposed without commit raises no event; notice it when the next save begins.</summary>
    private void ForgetEndedTransaction()
    {
        if (_awaitingCommit.Count > 0 && context.Database.CurrentTransaction?.TransactionId != _awaitedTransaction)
            RolledBack();
    }

    /// <summary>Takes a saved envelope out of the tracker at once, or a second save of unaccepted changes would insert it again.</summary>
    private static void Detach(EntityEntry<Envelope> entry)
    {
        // Until its changes are accepted, what the database returned stands in the tracker and not in the object.
        var (id, visibleAt, createdAt) = (
            entry.Property(envelope => envelope.Id).CurrentValue,
            entry.Property(envelope => envelope.VisibleAt).CurrentValue,
            entry.Property(envelope => envelope.CreatedAt).CurrentValue);
        entry.State = EntityState.Detached;
        (entry.Entity.Id, entry.Entity.VisibleAt, entry.Entity.CreatedAt) = (id, visibleAt, createdAt);
    }

    private static async Task<object?> RunAsync(Func<Task> operation)
    {
        await operation().ConfigureAwait(false);
        return null;
    }

    /// <summary>
    /// While it runs, a retrying execution strategy of the application stays out: a retry inside the transaction could
    /// never succeed, and the message's own retry starts from a fresh scope.
    /// </summary>
    private sealed class SingleAttemptStrategy(DbContext context) : ExecutionStrategy(context, maxRetryCount: 0, maxRetryDelay: TimeSpan.Zero)
    {
        protected override bool ShouldRetryOn(Exception exception) => false;
    }
}
