using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.Logging;
using OutboxBus.Delivery;
using OutboxBus.Publishing;
using OutboxBus.Storage;
using IsolationLevel = System.Data.IsolationLevel;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// The unit of work of one DbContext. Outside a consumer the envelopes ride whichever <c>SaveChanges</c> comes next;
/// inside a consumer they wait for the gate's own last flush, so that no savepoint of the handler can take them back.
/// </summary>
internal sealed class DbContextUnitOfWork(DbContext context, SaveAcceptance acceptance, IOutboxDatabase database, string bus, HandOff handOff, TimeProvider time, ILogger logger) : IUnitOfWork
{
    private const int MaxSavesPerFlush = 10;
    private const string Mark = "outboxbus_mark";

    private readonly PendingEnvelopes _pending = new();

    // In a command of the save under way, not yet seen to be saved.
    private readonly EnvelopeInserts _inserts = new(database);

    // In the change tracker, not yet seen to be saved.
    private readonly List<Envelope> _tracked = [];

    private readonly SavedEnvelopes _saved = new(context, handOff, time);
    private readonly UnacceptedEnvelopes _unaccepted = new(context);
    private readonly ScheduleCancellations _cancellations = new(context, database, bus, acceptance, logger);

    // In the change tracker of a save under way when they were cancelled.
    private readonly List<Envelope> _cancelledLate = [];
    private Guid _cancelledIn;
    private Guid _transactionWithFailure;

    // Appended before the gate began, by a filter outside it: not the failed handler's to take along.
    private IReadOnlyList<Envelope> _beforeGate = [];
    private IReadOnlyList<Envelope> _beforeMark = [];
    private IReadOnlyCollection<Guid> _cancelledBeforeGate = [];
    private IReadOnlyCollection<Guid> _cancelledBeforeMark = [];
    private bool _hasChangesBeforeGate;
    private bool _lostChangesBeforeGate;
    private IDbContextTransaction? _gate;

    // To be inserted by the flush, and not yet seen to be.
    private InboxMessage? _record;

    // Tokens of messages that an earlier save has written, and which are there.
    private IReadOnlyCollection<Guid> _standing = [];
    private bool _flushing;
    private volatile bool _saving;

    // No interceptor can refuse the save under way any more.
    private bool _saveIsCertain;

    // What is left of the save under way, such as the application's interceptors, can take nothing back.
    private bool _saveIsCommitted;

    // As it was when the save began: EF Core turns it off while it tells of its looking for changes.
    private bool _detectsChanges;

    // The save under way has a row of the application's, whose command the envelopes can travel with.
    private bool _hasCommand;
    private bool _atomicityIsOff;
    private bool _rowsWritten;

    /// <summary>Which use of a pooled context this belongs to.</summary>
    public int Lease { get; } = context.ContextId.Lease;

    public IReadOnlyCollection<Envelope> Unsaved
    {
        get
        {
            lock (_tracked)
                return [.. _tracked, .. _inserts.Envelopes, .. _pending.Snapshot()];
        }
    }

    public IReadOnlyCollection<Guid> UnsavedCancellations => _cancellations.Unsaved;

    /// <summary>Whether a transaction of the inbox gate is open.</summary>
    public bool IsInGate => _gate is not null;

    /// <summary>Whether envelopes are saved in a transaction that has not ended.</summary>
    public bool AwaitsCommit => _saved.AnyAwaiting;

    /// <summary>Whether an earlier save was not accepted, and may have come to nothing.</summary>
    public bool HasUnaccepted => _unaccepted.Any;

    public void Append(Envelope envelope)
    {
        lock (_tracked)
        {
            acceptance.Listen();
            // Published by an interceptor of the application that runs after ours, and nothing will detect changes: now or never.
            var isNowOrNever = _saving && !_detectsChanges;
            if (isNowOrNever)
                CheckAtomicity();
            _pending.Add(envelope);
            if (isNowOrNever)
                Track();
        }
    }

    public void Cancel(Guid scheduleToken)
    {
        lock (_tracked)
        {
            _pending.RemoveScheduled(scheduleToken);
            _cancelledLate.AddRange(_tracked.Where(envelope => envelope.ScheduleToken == scheduleToken));
            // After a save that failed, or was not accepted. From a save under way only that itself may take them.
            if (!_saving)
            {
                Untrack(_cancelledLate);
                _unaccepted.Forget(scheduleToken);
            }

            _cancellations.Add(scheduleToken);
        }
    }

    public Task WithoutRetriesAsync(Func<Task> operation) => new SingleAttemptStrategy(context).RunAsync(operation);

    public async Task BeginAsync(CancellationToken cancellationToken)
    {
        if (_lostChangesBeforeGate)
        {
            throw new OutboxBusException(
                $"Something outside the consumer, such as a filter, has changed entities of {context.GetType().Name}, and the attempt that failed has lost them; this attempt would commit its messages without them. "
                + "Remedy: put the filter inside the retry, so that it runs for each attempt, or let it change nothing.");
        }

        _hasChangesBeforeGate = context.ChangeTracker.HasChanges();
        _beforeGate = _pending.Snapshot();
        _pending.Restart(_beforeGate);
        _cancelledBeforeGate = UnsavedCancellations;
        _gate = await context.Database.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellationToken).ConfigureAwait(false);
    }

    public DbCommand CreateCommand()
    {
        var command = context.Database.GetDbConnection().CreateCommand();
        command.Transaction = _gate!.GetDbTransaction();
        return command;
    }

    public async Task MarkAsync(CancellationToken cancellationToken)
    {
        _beforeMark = _pending.Snapshot();
        _cancelledBeforeMark = UnsavedCancellations;
        await _gate!.CreateSavepointAsync(Mark, cancellationToken).ConfigureAwait(false);
    }

    public async Task RollbackToMarkAsync(CancellationToken cancellationToken)
    {
        _pending.Restart(_beforeMark);
        _cancellations.Restart(_cancelledBeforeMark);
        context.ChangeTracker.Clear();
        await _gate!.RollbackToSavepointAsync(Mark, cancellationToken).ConfigureAwait(false);
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
            for (var saves = 0; saves == 0 || _record is not null || _tracked.Count > 0 || _cancellations.AreDue || !_pending.TrySeal(); saves++)
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
        EndSaving();
        _pending.Restart(_beforeGate);
        _cancellations.Restart(_cancelledBeforeGate);
        lock (_tracked)
        {
            _tracked.Clear();
            _inserts.TakeAll();
            _cancelledLate.Clear();
        }

        _saved.Clear();
        _unaccepted.Clear();
        context.ChangeTracker.Clear();
        _lostChangesBeforeGate |= _hasChangesBeforeGate;
        if (gate is null)
            return;
        try
        {
            try
            {
                await gate.RollbackAsync(CancellationToken.None).ConfigureAwait(false);
            }
            finally
            {
                await gate.DisposeAsync().ConfigureAwait(false);
            }
        }
        catch (Exception)
        {
            // The transaction is gone already, or the connection is: either way the server rolls it back. Nor may anything, such
            // as an interceptor of the application, take the place of the error that led here.
        }
    }

    /// <summary>After the gate's commit: publishes are welcome again, and nothing is tracked, however the commit was found to have happened.</summary>
    public void StartAfresh()
    {
        _pending.Restart([]);
        _cancellations.Restart([]);
        context.ChangeTracker.Clear();
    }

    /// <summary>
    /// SaveChanges begins: saves again what an earlier one has saved, unaccepted, and is not there any more. The insert gives
    /// it a key, a time and, unless it has a due time or waits for others, a lease anew.
    /// </summary>
    public void SavingAgain()
    {
        var tokens = _unaccepted.ScheduleTokens();
        AppendAgain(tokens, _unaccepted.TakeLost());
    }

    /// <inheritdoc cref="SavingAgain"/>
    public async Task SavingAgainAsync(CancellationToken cancellationToken)
    {
        var tokens = _unaccepted.ScheduleTokens();
        AppendAgain(tokens, await _unaccepted.TakeLostAsync(cancellationToken).ConfigureAwait(false));
    }

    private void AppendAgain(IReadOnlyCollection<Guid> tokens, List<Envelope> lost)
    {
        foreach (var envelope in lost)
            _pending.Add(envelope);
        _standing = [.. tokens.Except(lost.Select(envelope => envelope.ScheduleToken).OfType<Guid>())];
    }

    /// <summary>SaveChanges begins: the pending envelopes go with it.</summary>
    public void Saving()
    {
        if (_gate is not null && !_flushing)
            return;

        // A save inside the SavedChanges of another: first things first, or the other's envelopes would take this one's time.
        if (NoteSaved().Envelopes > 0 && _cancellations.HaveRun)
            _cancellations.Saved();
        _saved.SaveBegins();
        _atomicityIsOff = !_saved.HasTransaction && context.Database.AutoTransactionBehavior == AutoTransactionBehavior.Never;
        _cancellations.Begin(_standing);
        _standing = [];
        if (_cancellations.AreDue)
            CheckAtomicity();
        lock (_tracked)
        {
            // A save that an interceptor of the application has refused told nobody of its end.
            if (!_saving)
            {
                context.ChangeTracker.DetectingAllChanges += TrackLate;
                context.ChangeTracker.DetectedAllChanges += Prepare;
            }

            _detectsChanges = context.ChangeTracker.AutoDetectChangesEnabled;
            _saving = true;
            if (!MayAppend)
                Track();
        }

        (_saveIsCertain, _saveIsCommitted, _hasCommand) = (false, false, false);
        // Nothing will tell that the save has passed the application's interceptors.
        if (!_detectsChanges)
            Prepare(this, EventArgs.Empty);
    }

    /// <summary>Whether the envelopes of the save under way may travel with its command, should it have one; otherwise they are tracked.</summary>
    // Only if EF Core is about to tell what the save consists of, and if its end is the end of it.
    private bool MayAppend => database.Dialect.CanAppendInsert && _detectsChanges && acceptance.OfSave == true;

    /// <summary>The save is past the application's interceptors, and EF Core knows what has changed.</summary>
    private void Prepare(object? sender, EventArgs e)
    {
        if (Lease != context.ContextId.Lease)
            return;
        _saveIsCertain = true;
        if (MayAppend && _pending.Any)
            PrepareToAppend();
        if (!_cancellations.AreDue)
            return;
        CheckAtomicity();
        _cancellations.DemandTransaction();
    }

    private void PrepareToAppend()
    {
        CheckAtomicity();
        // Anew: an interceptor that looks at the tracker has made EF Core look for changes before.
        _hasCommand = false;
        var onlyInserts = true;
        foreach (var entry in context.ChangeTracker.Entries())
        {
            _hasCommand |= entry.IsUnsaved();
            // A row that is not there fails the save although its statement has not failed, which undoes nothing without a transaction.
            onlyInserts &= entry.State == EntityState.Unchanged || (entry.State == EntityState.Added && entry.Metadata.GetInsertStoredProcedure() is null);
        }

        if (!_hasCommand)
        {
            lock (_tracked)
                Track();
        }
        else if (!onlyInserts)
        {
            _cancellations.DemandTransaction();
        }
    }

    /// <summary>EF Core is about to execute a command of the save under way: the envelopes travel with it. False: there are none.</summary>
    public bool Executing(DbCommand command)
    {
        if (!_saving || !_hasCommand)
            return false;
        lock (_tracked)
            return _inserts.AppendTo(command, _pending.Take());
    }

    /// <summary>EF Core has read what a command has returned.</summary>
    public void Executed(DbCommand command, DbDataReader reader)
    {
        _inserts.Read(command, reader);
        NoteAnswer();
    }

    /// <inheritdoc cref="Executed"/>
    public async Task ExecutedAsync(DbCommand command, DbDataReader reader)
    {
        await _inserts.ReadAsync(command, reader).ConfigureAwait(false);
        NoteAnswer();
    }

    // Without a transaction the command has committed them.
    private void NoteAnswer() => _saveIsCommitted |= _inserts.AreInserted && !_saved.HasTransaction && context.Database.CurrentTransaction is null;

    /// <summary>A transaction begins: that of the save under way, if there is one.</summary>
    public void TransactionStarted() => _inserts.StartAgain();

    /// <summary>Whether the save under way is to take scheduled messages back at this stage.</summary>
    public bool TakesBackAt(SaveStage stage) => _saving && (_saveIsCertain || stage == SaveStage.Begun) && _cancellations.AreDueAt(stage);

    /// <summary>Takes scheduled messages back, in the transaction given, or in that of the context, or, if the save has none because it had no rows, alone.</summary>
    public void TakeBack(DbTransaction? transaction)
    {
        try
        {
            NoteTakenBack(_cancellations.Run(transaction));
        }
        catch
        {
            CommandFailed();
            throw;
        }
    }

    /// <inheritdoc cref="TakeBack"/>
    public async Task TakeBackAsync(DbTransaction? transaction, CancellationToken cancellationToken)
    {
        try
        {
            NoteTakenBack(await _cancellations.RunAsync(transaction, cancellationToken).ConfigureAwait(false));
        }
        catch
        {
            CommandFailed();
            throw;
        }
    }

    private void NoteTakenBack(IReadOnlyList<Guid> tokens)
    {
        // That the statement was answered proves as much.
        _rowsWritten = true;
        _cancelledIn = context.Database.CurrentTransaction?.TransactionId ?? Guid.Empty;
        // What the gate hands off is not read again.
        if (_gate is not null)
            _saved.Remove(tokens);
    }

    /// <summary>
    /// The save looks for changes, after all interceptors: what they have published is still in time. Not when it is published,
    /// as publishers may be on other threads than the save.
    /// </summary>
    private void TrackLate(object? sender, DetectChangesEventArgs e)
    {
        if (Lease != context.ContextId.Lease)
            return;
        // Those are in time as well, and before the rows; EF Core has no asynchronous place for it.
        if (TakesBackAt(SaveStage.Begun))
            TakeBack(transaction: null);
        lock (_tracked)
        {
            Untrack(_cancelledLate);
            if (!MayAppend)
                Track();
        }
    }

    private void Untrack(List<Envelope> envelopes)
    {
        foreach (var envelope in envelopes)
        {
            context.Entry(envelope).State = EntityState.Detached;
            _tracked.Remove(envelope);
        }

        envelopes.Clear();
    }

    /// <summary>As the application's own rows the envelopes of a failed save stay in the change tracker: whoever clears it gives them up.</summary>
    private void TrackFailed()
    {
        lock (_tracked)
        {
            _pending.PutBack(_inserts.TakeAll());
            if (!_atomicityIsOff)
                Track();
        }
    }

    private void EndSaving()
    {
        if (!_saving)
            return;
        (_saving, _hasCommand) = (false, false);
        context.ChangeTracker.DetectingAllChanges -= TrackLate;
        context.ChangeTracker.DetectedAllChanges -= Prepare;
        _cancellations.RestoreAutoTransactions();
    }

    /// <summary>SaveChanges has failed, or something has after its rows were written.</summary>
    public void SaveFailed()
    {
        // Of a batch that fails after its first statement no command event tells.
        CommandFailed();
        _cancellations.Failed();
        // An interceptor of the application may have failed after the save had succeeded.
        if (_saving && MayAppend && !_saveIsCommitted && context.FindUnsavedRow(_ => true) is not null)
            TrackFailed();
        NoteEnd();
    }

    /// <summary>SaveChanges has succeeded; returns how many of its rows were envelopes or the inbox record.</summary>
    public int Saved(int rows)
    {
        _rowsWritten |= rows > 0 || _inserts.AreInserted;
        if (_cancellations.HaveRun)
            _cancellations.Saved();
        // Written after all, as nothing has looked for changes: the next save takes them back.
        lock (_tracked)
        {
            foreach (var envelope in _cancelledLate)
                _cancellations.Add(envelope.ScheduleToken!.Value);
            _cancelledLate.Clear();
        }

        return NoteEnd();
    }

    private int NoteEnd()
    {
        EndSaving();
        return _gate is not null && !_flushing ? 0 : DetachRecord() + NoteSaved().Rows;
    }

    /// <summary>A command has failed or was cancelled. PostgreSQL then aborts the transaction it ran in.</summary>
    public void CommandFailed() => _transactionWithFailure = context.Database.CurrentTransaction?.TransactionId ?? Guid.Empty;

    /// <summary>Whether the transaction has messages or cancellations, and a failure that may have aborted it: its COMMIT could be a silent ROLLBACK.</summary>
    public bool MayBeAborted(Guid transaction)
        => _gate is null && _transactionWithFailure == transaction && (_cancelledIn == transaction || _saved.IsAwaited(transaction));

    /// <summary>One of the context's transactions has committed.</summary>
    public void Committed(Guid transaction)
    {
        _cancellations.Committed(transaction);
        _saveIsCommitted |= _saving;
        if (!_saved.IsAwaited(transaction))
            return;
        _unaccepted.Detach();
        // The gate's envelopes are written by its last flush: nothing can have rolled them back since.
        _saved.Offer(_gate is not null ? CommitCertainty.Proven : CommitCertainty.Unverified);
    }

    /// <summary>One of the context's transactions has rolled back: its envelopes never existed.</summary>
    public void RolledBack(Guid transaction)
    {
        if (_saved.IsAwaited(transaction))
            _saved.Clear();
    }

    /// <summary>Whether something may still become of what was published here.</summary>
    public bool IsUnfinished => AwaitsCommit || Unsaved.Count > 0 || UnsavedCancellations.Count > 0;

    /// <summary>The scope ends. Its transaction most likely has too, even if others ended it: delivery looks for the envelopes.</summary>
    public void ScopeEnds() => _saved.Offer(CommitCertainty.Unverified);

    /// <inheritdoc cref="SavedEnvelopes.EnlistmentEnds"/>
    public void EnlistmentEnds() => _saved.EnlistmentEnds();

    /// <summary>Whether the database has answered for a row.</summary>
    private bool WasInserted(Envelope envelope)
        // Accepted values stand in the object, even if an interceptor of the application has cleared the tracker since.
        => envelope.CreatedAt != default
            || (context.Entry(envelope) is { State: not EntityState.Detached } entry && entry.Property(row => row.CreatedAt).CurrentValue != default);

    /// <summary>
    /// Takes note of what the database has answered for; returns how many that were,
    /// and how many of them were rows of EF Core's.
    /// </summary>
    private (int Envelopes, int Rows) NoteSaved()
    {
        // What the application has removed from the change tracker, or published too late for this save, was not saved and stays known as such.
        List<Envelope> inserted;
        List<Envelope> saved;
        lock (_tracked)
        {
            inserted = _tracked.FindAll(WasInserted);
            _tracked.RemoveAll(inserted.Contains);
            saved = _inserts.AreInserted ? _inserts.TakeInserted() : [];
        }

        saved.AddRange(inserted.Select(TakeSaved));
        if (saved.Count > 0)
            _saved.Add(saved);
        return (saved.Count, inserted.Count);
    }

    /// <summary>Takes a saved envelope out of the change tracker, unless its changes are unaccepted and its transaction may come to nothing.</summary>
    private Envelope TakeSaved(Envelope envelope)
    {
        var entry = context.Entry(envelope);
        if (entry.State != EntityState.Added)
        {
            entry.State = EntityState.Detached;
            return envelope;
        }

        // Until its changes are accepted, what the database returned stands in the tracker and not in the object.
        var saved = (Envelope)entry.CurrentValues.ToObject();
        if (_saved.CommitIsEvident)
            entry.State = EntityState.Detached;
        else
            _unaccepted.Add(envelope);
        return saved;
    }

    private int DetachRecord()
    {
        if (_record is null || (_record.ConsumedAt == default && context.Entry(_record).Property(row => row.ConsumedAt).CurrentValue == default))
            return 0;
        context.Entry(_record).State = EntityState.Detached;
        _record = null;
        return 1;
    }

    private void Track()
    {
        if (_pending.Snapshot().Count > 0)
            CheckAtomicity();
        foreach (var envelope in _pending.Take())
        {
            context.Add(envelope);
            _tracked.Add(envelope);
        }
    }

    private void CheckAtomicity()
    {
        if (_atomicityIsOff)
        {
            throw new OutboxBusException(
                "A message was published or cancelled in a DbContext whose AutoTransactionBehavior is Never, and no transaction is open: business data and message would not be atomic. "
                + "Begin a transaction around SaveChanges, or set AutoTransactionBehavior to WhenNeeded.");
        }
    }
}
