using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.EntityFrameworkCore.Infrastructure;
using OutboxBus.Consuming;
using OutboxBus.Diagnostics;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>Tells a DbContext's unit of work about saves, commits and rollbacks.</summary>
internal sealed class OutboxInterceptor(UnitOfWorkRegistry registry, InboxGate gate, FaultPoints faults, TimeProvider time) : SaveChangesInterceptor, IDbTransactionInterceptor
{
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
            registry.For(context).Saving();
        return result;
    }

    public override ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
        => new(SavingChanges(eventData, result));

    public override int SavedChanges(SaveChangesCompletedEventData eventData, int result)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        if (eventData.Context!.Database.CurrentTransaction is null)
            faults.Reach(FaultPoint.AfterCommit);
        // The caller counts its own rows.
        return result - unit.Saved(result);
    }

    public override async ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return result;
        if (eventData.Context!.Database.CurrentTransaction is null)
            await faults.ReachAsync(FaultPoint.AfterCommit, null).ConfigureAwait(false);
        return result - unit.Saved(result);
    }

    public override void SaveChangesFailed(DbContextErrorEventData eventData) => registry.Find(eventData.Context)?.SaveEnded();

    public override Task SaveChangesFailedAsync(DbContextErrorEventData eventData, CancellationToken cancellationToken = default)
    {
        SaveChangesFailed(eventData);
        return Task.CompletedTask;
    }

    public override void SaveChangesCanceled(DbContextEventData eventData) => registry.Find(eventData.Context)?.SaveEnded();

    public override Task SaveChangesCanceledAsync(DbContextEventData eventData, CancellationToken cancellationToken = default)
    {
        SaveChangesCanceled(eventData);
        return Task.CompletedTask;
    }

    public InterceptionResult TransactionCommitting(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result)
    {
        if (registry.Find(eventData.Context) is not null)
            faults.Reach(FaultPoint.BeforeCommit);
        return result;
    }

    public async ValueTask<InterceptionResult> TransactionCommittingAsync(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not null)
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
        unit.Committed();
    }

    public async Task TransactionCommittedAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
    {
        if (registry.Find(eventData.Context) is not { } unit)
            return;
        if (unit.AwaitsCommit)
            await faults.ReachAsync(FaultPoint.AfterCommit, null).ConfigureAwait(false);
        unit.Committed();
    }

    public void TransactionRolledBack(DbTransaction transaction, TransactionEndEventData eventData) => registry.Find(eventData.Context)?.RolledBack();

    public Task TransactionRolledBackAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
    {
        TransactionRolledBack(transaction, eventData);
        return Task.CompletedTask;
    }
}
