using System.Data;
using MassTransit;
using MassTransit.Middleware;
using MassTransit.Saga;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EntityFrameworkCore.Publishing;

namespace OutboxBus.MassTransit.Sagas;

/// <summary>
/// Keeps the instances of one saga in the scope's DbContext. Inside the inbox they are part of its transaction: state,
/// record and messages are written by its one flush. Elsewhere each message has a transaction of its own here.
/// </summary>
internal sealed class DbContextSagaRepository<TSaga, TDbContext>(TDbContext context, SagaRepositoryOptions<TSaga> options)
    : ISagaRepositoryContextFactory<TSaga>, IQuerySagaRepositoryContextFactory<TSaga>, ILoadSagaRepositoryContextFactory<TSaga>
    where TSaga : class, ISaga
    where TDbContext : DbContext
{
    private readonly SagaQueries<TSaga> _queries = new(context, options);

    public Task Send<T>(ConsumeContext<T> consume, IPipe<SagaRepositoryContext<TSaga, T>> next)
        where T : class => InTransactionAsync(consume, () => next.Send(ContextOf(consume)));

    public Task SendQuery<T>(ConsumeContext<T> consume, ISagaQuery<TSaga> query, IPipe<SagaRepositoryQueryContext<TSaga, T>> next)
        where T : class => InTransactionAsync(consume, async () =>
        {
            var found = await _queries.FindAsync(query.FilterExpression, consume.CancellationToken).ConfigureAwait(false);
            await next.Send(new LoadedSagaRepositoryQueryContext<TSaga, T>(ContextOf(consume), found)).ConfigureAwait(false);
        });

    public Task<T> Execute<T>(Func<QuerySagaRepositoryContext<TSaga>, Task<T>> asyncMethod, CancellationToken cancellationToken = default)
        where T : class => asyncMethod(new ReadingContext(_queries, cancellationToken));

    public Task<T> Execute<T>(Func<LoadSagaRepositoryContext<TSaga>, Task<T>> asyncMethod, CancellationToken cancellationToken = default)
        where T : class => asyncMethod(new ReadingContext(_queries, cancellationToken));

    public void Probe(ProbeContext probe) => probe.CreateScope("outboxbus-saga").Add("context", typeof(TDbContext).Name);

    private DbContextSagaContext<TSaga, T> ContextOf<T>(ConsumeContext<T> consume)
        where T : class => new(consume, context, _queries);

    private async Task InTransactionAsync(ConsumeContext consume, Func<Task> run)
    {
        if (context.Database.CurrentTransaction is not null)
        {
            await run().ConfigureAwait(false);
            return;
        }

        if (consume.TryGetPayload<OutboxConsumeContext>(out _))
        {
            throw new OutboxBusException(
                $"The saga {typeof(TSaga)} is kept in {typeof(TDbContext).Name}, which is not the context of this endpoint's inbox: its state and its messages would not be atomic. "
                + "Remedy: keep it in the context given to AddOutboxBus, or configure its endpoint by hand, without UseOutboxBus.");
        }

        // A retry in this scope would find it half done; the message's own retry starts from a fresh one.
        await new SingleAttemptStrategy(context).RunAsync(() => InOwnTransactionAsync(run, consume.CancellationToken)).ConfigureAwait(false);
    }

    private async Task InOwnTransactionAsync(Func<Task> run, CancellationToken cancellationToken)
    {
        var transaction = await context.Database.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellationToken).ConfigureAwait(false);
        await using var disposal = transaction.ConfigureAwait(false);
        try
        {
            await run().ConfigureAwait(false);
            await context.SaveChangesAsync(cancellationToken).ConfigureAwait(false);
            await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            // UseMessageScope may let a retry use the context again.
            context.ChangeTracker.Clear();
            throw;
        }
    }

    /// <summary>For those who only look, such as a query of the application or a test.</summary>
    private sealed class ReadingContext(SagaQueries<TSaga> queries, CancellationToken cancellationToken)
        : BasePipeContext(cancellationToken), QuerySagaRepositoryContext<TSaga>, LoadSagaRepositoryContext<TSaga>
    {
        public async Task<SagaRepositoryQueryContext<TSaga>> Query(ISagaQuery<TSaga> query, CancellationToken cancellationToken = default)
            => new DefaultSagaRepositoryQueryContext<TSaga>(this, await queries.FindIdsAsync(query.FilterExpression, cancellationToken).ConfigureAwait(false));

        public Task<TSaga> Load(Guid correlationId) => queries.ReadAsync(correlationId, CancellationToken)!;
    }
}
