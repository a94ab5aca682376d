namespace OutboxBus.MassTransit;

/// <summary>How the instances of one saga are kept in a DbContext.</summary>
/// <typeparam name="TSaga">The saga, an entity of that context.</typeparam>
public sealed class SagaRepositoryOptions<TSaga>
    where TSaga : class
{
    /// <summary>
    /// How two messages for one instance are kept apart; default null: <see cref="SagaConcurrency.Optimistic"/> if the
    /// entity has a row version, otherwise <see cref="SagaConcurrency.Pessimistic"/>.
    /// </summary>
    public SagaConcurrency? Concurrency { get; set; }

    /// <summary>Adds to the query that loads instances, such as <c>query => query.Include(order => order.Lines)</c>; default null: the instance as it is mapped.</summary>
    public Func<IQueryable<TSaga>, IQueryable<TSaga>>? Query { get; set; }
}

/// <summary>How two messages for one saga instance are kept from overwriting each other's changes.</summary>
public enum SagaConcurrency
{
    /// <summary>
    /// Whoever saves second fails by the entity's concurrency token (a row version, <c>xmin</c> on PostgreSQL, or a property
    /// that the saga itself changes with every message), and its message is retried: configure retries.
    /// </summary>
    Optimistic,

    /// <summary>The instance's row is locked when it is loaded, until the transaction ends: the second message waits. Of two that would both start an instance, the second fails by its key and is retried: configure retries. On SQLite the transaction has the whole database.</summary>
    Pessimistic,
}
