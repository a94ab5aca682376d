using MassTransit;
using MassTransit.Context;
using MassTransit.Saga;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Metadata;

namespace OutboxBus.MassTransit.Sagas;

/// <summary>What one message does with the instances of a saga. Changes stay in the change tracker for the transaction's last flush.</summary>
internal sealed class DbContextSagaContext<TSaga, TMessage> : ConsumeContextScope<TMessage>, SagaRepositoryContext<TSaga, TMessage>
    where TSaga : class, ISaga
    where TMessage : class
{
    private readonly ConsumeContext<TMessage> _consume;
    private readonly DbContext _context;
    private readonly SagaQueries<TSaga> _queries;

    public DbContextSagaContext(ConsumeContext<TMessage> consume, DbContext context, SagaQueries<TSaga> queries)
        // The activities of a state machine find the context as a payload.
        : base(consume, context)
    {
        _consume = consume;
        _context = context;
        _queries = queries;
    }

    public Task<SagaConsumeContext<TSaga, TMessage>> Add(TSaga instance) => CreateSagaConsumeContext(_consume, instance, SagaConsumeContextMode.Add);

    /// <summary>InsertOnInitial: the row is written before anything else, so that of two first messages one waits for the other, and then finds its instance.</summary>
    public async Task<SagaConsumeContext<TSaga, TMessage>> Insert(TSaga instance)
    {
        // The savepoint keeps the transaction alive if the row is there already; not finding it then is up to the saga's policy.
        var savepoints = _context.Database.AutoSavepointsEnabled;
        _context.Database.AutoSavepointsEnabled = true;
        var entry = _context.Add(instance);
        try
        {
            await _context.SaveChangesAsync(CancellationToken).ConfigureAwait(false);
            return await CreateSagaConsumeContext(_consume, instance, SagaConsumeContextMode.Insert).ConfigureAwait(false);
        }
        catch (DbUpdateException)
        {
            entry.State = EntityState.Detached;
            return null!;
        }
        finally
        {
            _context.Database.AutoSavepointsEnabled = savepoints;
        }
    }

    public async Task<SagaConsumeContext<TSaga, TMessage>> Load(Guid correlationId)
        => await _queries.LoadAsync(correlationId, CancellationToken).ConfigureAwait(false) is { } instance
            ? await CreateSagaConsumeContext(_consume, instance, SagaConsumeContextMode.Load).ConfigureAwait(false)
            : null!;

    public Task Save(SagaConsumeContext<TSaga> saga)
    {
        _context.Add(saga.Saga);
        return Task.CompletedTask;
    }

    public Task Update(SagaConsumeContext<TSaga> saga)
    {
        // Otherwise the flush does it.
        if (!_context.ChangeTracker.AutoDetectChangesEnabled)
            _context.ChangeTracker.DetectChanges();
        if (_queries.VersionIsOfAll)
            UpdateVersion(_context.Entry(saga.Saga));
        return Task.CompletedTask;
    }

    public Task Delete(SagaConsumeContext<TSaga> saga)
    {
        _context.Remove(saga.Saga);
        return Task.CompletedTask;
    }

    public Task Discard(SagaConsumeContext<TSaga> saga)
    {
        _context.Entry(saga.Saga).State = EntityState.Detached;
        return Task.CompletedTask;
    }

    /// <summary>The event was declared read-only: what it did to the instance, or to what it owns, is not stored.</summary>
    public Task Undo(SagaConsumeContext<TSaga> saga)
    {
        _context.ChangeTracker.DetectChanges();
        foreach (var entry in _context.ChangeTracker.Entries().Where(IsOfSaga).ToList())
            entry.State = entry.State == EntityState.Added ? EntityState.Detached : EntityState.Unchanged;

        return Task.CompletedTask;
    }

    public Task<SagaConsumeContext<TSaga, T>> CreateSagaConsumeContext<T>(ConsumeContext<T> consumeContext, TSaga instance, SagaConsumeContextMode mode)
        where T : class => Task.FromResult<SagaConsumeContext<TSaga, T>>(new DefaultSagaConsumeContext<TSaga, T>(consumeContext, instance));

    /// <summary>An event may have changed the instance's children only, which the version of its row has to tell.</summary>
    private void UpdateVersion(EntityEntry entry)
    {
        if (entry.State != EntityState.Unchanged || !_context.ChangeTracker.HasChanges())
            return;
        var unchanged = entry.Metadata.GetProperties().FirstOrDefault(
            property => !property.IsPrimaryKey() && property.ValueGenerated == ValueGenerated.Never && property.GetAfterSaveBehavior() == PropertySaveBehavior.Save);
        if (unchanged is not null)
            entry.Property(unchanged).IsModified = true;
    }

    private static bool IsOfSaga(EntityEntry entry)
    {
        var type = entry.Metadata;
        while (type.FindOwnership() is { } ownership)
            type = ownership.PrincipalEntityType;
        return type.ClrType == typeof(TSaga);
    }
}
