using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.EntityFrameworkCore.Infrastructure;
using OutboxBus.Consuming;
using OutboxBus.Diagnostics;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>Tells a DbContext's unit of work about saves, commits and rollbacks.</summary>
internal sealed class OutboxInterceptor(UnitOfWorkRegistry registry, InboxGate gate, FaultPoints faults, TimeProvider time) : SaveChangesInterceptor, IDbTransactionInterceptor, IDbCommandInterceptor
{
    // in_failed_sql_transaction, in the standard's and PostgreSQL's words.
    private const string TransactionIsAborted = "25P02";

    public InboxGate Gate => gate;

    public TimeProvider Time => time;

    /// <summary>The interceptor in a context's options; null: the context has no outbox.</summary>
    public static OutboxInterceptor? Of(DbContext context)
        => context.GetService<IDbContextOptions>().FindExtension<CoreOptionsExtension>()?.Interceptors?.OfType<OutboxInterceptor>().FirstOrDefault();

    public DbContextUnitOfWork UnitOfWorkOf(DbContext context) => registry.For(context);

    public override InterceptionResult<int> SavingChanges(DbContextEventData eventData, InterceptionResult<int> result)
    {
        // Even for a context that has published nothing: an interceptor after this one may.
        if (eventData.Context is { } context)
        {
            var unit = registry.For(context);
            if (unit.HasUnaccepted)
                unit.SavingAgain();
            unit.Saving();
            if (unit.TakesBackAt(SaveStage.Begun))
                unit.TakeBack(transaction: null);
        }

        return result;
    }

    public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
    {
        if (eventData.Context is { } context)
        {
            var unit = registry.For(context);
            if (unit.HasUnaccepted)
                await unit.SavingAgainAsync(cancellationToken).ConfigureAwait(false);
            unit.Saving();
            if (unit.TakesBackAt(SaveStage.Begun))
                await unit.TakeBackAsync(null, cancellationToken).ConfigureAwait(false);
        }

        return result;
    }

    public override int SavedChanges(SaveChangesCompletedEventData eventData, int result)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        // With rows, what was cancelled since is the next save's: their transaction may have ended.
        if (eventData.EntitiesSavedCount == 0 && unit.TakesBackAt(SaveStage.Saved))
            unit.TakeBack(transaction: null);
        if (eventData.Context!.Database.CurrentTransaction is null)
            faults.Reach(FaultPoint.AfterCommit);
        // The caller counts its own rows.
        return result - unit.Saved(result);
    }

    public override async ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        if (eventData.EntitiesSavedCount == 0 && unit.TakesBackAt(SaveStage.Saved))
            await unit.TakeBackAsync(null, cancellationToken).ConfigureAwait(false);
        if (eventData.Context!.Database.CurrentTransaction is null)
            await faults.ReachAsync(FaultPoint.AfterCommit, null).ConfigureAwait(false);
        return result - unit.Saved(result);
    }

    public override void SaveChangesFailed(DbContextErrorEventData eventData) => registry.Find(eventData.Context)?.SaveFailed();

    public override Task SaveChangesFailedAsync(DbContextErrorEventData eventData, CancellationToken cancellationToken = default)
    {
        SaveChangesFailed(eventData);
        return Task.CompletedTask;
    }

    public override void SaveChangesCanceled(DbContextEventData eventData) => registry.Find(eventData.Context)?.SaveFailed();

    public override Task SaveChangesCanceledAsync(DbContextEventData eventData, CancellationToken cancellationToken = default)
    {
        SaveChangesCanceled(eventData);
        return Task.CompletedTask;
    }

    public InterceptionResult<DbDataReader> ReaderExecuting(DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result)
    {
        if (AppendTo(command, eventData))
            faults.Reach(FaultPoint.BeforeCommit);
        return result;
    }

    public async ValueTask<InterceptionResult<DbDataReader>> ReaderExecutingAsync(DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result, CancellationToken cancellationToken = default)
    {
        if (AppendTo(command, eventData))
            await faults.ReachAsync(FaultPoint.BeforeCommit, null).ConfigureAwait(false);
        return result;
    }

    public InterceptionResult DataReaderClosing(DbCommand command, DataReaderClosingEventData eventData, InterceptionResult result)
    {
        registry.Find(eventData.Context)?.Executed(command, eventData.DataReader);
        return result;
    }

    public async ValueTask<InterceptionResult> DataReaderClosingAsync(DbCommand command, DataReaderClosingEventData eventData, InterceptionResult result)
    {
        if (registry.Find(eventData.Context) is { } unit)
            await unit.ExecutedAsync(command, eventData.DataReader).ConfigureAwait(false);
        return result;
    }

    public DbTransaction TransactionStarted(DbConnection connection, TransactionEndEventData eventData, DbTransaction result)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        unit.TransactionStarted();
        if (!unit.TakesBackAt(SaveStage.TransactionBegun))
            return result;
        try
        {
            unit.TakeBack(result);
            return result;
        }
        catch
        {
            // EF Core does not have it yet, and would leave it on a connection that the application has opened.
            result.Dispose();
            throw;
        }
    }

    public async ValueTask<DbTransaction> TransactionStartedAsync(DbConnection connection, TransactionEndEventData eventData, DbTransaction result, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        unit.TransactionStarted();
        if (!unit.TakesBackAt(SaveStage.TransactionBegun))
            return result;
        try
        {
            await unit.TakeBackAsync(result, cancellationToken).ConfigureAwait(false);
            return result;
        }
        catch
        {
            await result.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public void CreatedSavepoint(DbTransaction transaction, TransactionEventData eventData)
    {
        if (registry.Find(eventData.Context) is { } unit && unit.TakesBackAt(SaveStage.SavepointCreated))
            unit.TakeBack(transaction);
    }

    public async Task CreatedSavepointAsync(DbTransaction transaction, TransactionEventData eventData, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is { } unit && unit.TakesBackAt(SaveStage.SavepointCreated))
            await unit.TakeBackAsync(transaction, cancellationToken).ConfigureAwait(false);
    }

    public InterceptionResult TransactionCommitting(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        if (unit.MayBeAborted(eventData.TransactionId) && transaction.Connection is { } connection)
        {
            using var probe = ProbeOf(transaction, connection);
            try
            {
                probe.ExecuteNonQuery();
            }
            catch (DbException exception) when (exception.SqlState == TransactionIsAborted)
            {
                throw Aborted(eventData.Context!, exception);
            }
        }

        faults.Reach(FaultPoint.BeforeCommit);
        return result;
    }

    public async ValueTask<InterceptionResult> TransactionCommittingAsync(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        if (unit.MayBeAborted(eventData.TransactionId) && transaction.Connection is { } connection)
        {
            var probe = ProbeOf(transaction, connection);
            await using var disposal = probe.ConfigureAwait(false);
            try
            {
                await probe.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (DbException exception) when (exception.SqlState == TransactionIsAborted)
            {
                throw Aborted(eventData.Context!, exception);
            }
        }

        await faults.ReachAsync(FaultPoint.BeforeCommit, null).ConfigureAwait(false);
        return result;
    }

    public void TransactionCommitted(DbTransaction transaction, TransactionEndEventData eventData)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return;
        // A transaction of SaveChanges itself is followed by SavedChanges, which reaches the point.
        if (unit.AwaitsCommit)
            faults.Reach(FaultPoint.AfterCommit);
        unit.Committed(eventData.TransactionId);
    }

    public async Task TransactionCommittedAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return;
        if (unit.AwaitsCommit)
            await faults.ReachAsync(FaultPoint.AfterCommit, null).ConfigureAwait(false);
        unit.Committed(eventData.TransactionId);
    }

    public void TransactionRolledBack(DbTransaction transaction, TransactionEndEventData eventData) => registry.Find(eventData.Context)?.RolledBack(eventData.TransactionId);

    public Task TransactionRolledBackAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
    {
        TransactionRolledBack(transaction, eventData);
        return Task.CompletedTask;
    }

    public void CommandFailed(DbCommand command, CommandErrorEventData eventData) => registry.Find(eventData.Context)?.CommandFailed();

    public Task CommandFailedAsync(DbCommand command, CommandErrorEventData eventData, CancellationToken cancellationToken = default)
    {
        CommandFailed(command, eventData);
        return Task.CompletedTask;
    }

    public void CommandCanceled(DbCommand command, CommandEndEventData eventData) => registry.Find(eventData.Context)?.CommandFailed();

    public Task CommandCanceledAsync(DbCommand command, CommandEndEventData eventData, CancellationToken cancellationToken = default)
    {
        CommandCanceled(command, eventData);
        return Task.CompletedTask;
    }

    /// <summary>Lets the envelopes of a save travel with its command; true if the command commits them, too.</summary>
    private bool AppendTo(DbCommand command, CommandEventData eventData)
        => eventData.CommandSource == CommandSource.SaveChanges && registry.Find(eventData.Context) is { } unit && unit.Executing(command) && eventData.Context!.Database.CurrentTransaction is null;

    private static DbCommand ProbeOf(DbTransaction transaction, DbConnection connection)
    {
        var probe = connection.CreateCommand();
        probe.Transaction = transaction;
        probe.CommandText = "select 1";
        return probe;
    }

    private static OutboxBusException Aborted(DbContext context, DbException exception) => new(
        $"The transaction of {context.GetType().Name} cannot be committed: an earlier statement in it failed, the database has aborted it, and would answer the commit with a silent rollback. "
        + "Nothing of it is stored, its messages and cancellations included. Remedy: let the failure of a statement end the transaction, or put the statement between a savepoint and a rollback to it.",
        exception);
}
