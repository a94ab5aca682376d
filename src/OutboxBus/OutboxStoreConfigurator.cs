using OutboxBus.Storage;

namespace OutboxBus;

/// <summary>Chooses the database engine of an outbox and tunes it; handed to the callback of <c>AddOutboxBus</c>.</summary>
public sealed class OutboxStoreConfigurator
{
    private readonly List<Action<OutboxBusOptions>> _configure = [];

    internal Func<OutboxTables, SqlDialect>? Dialect { get; private set; }

    internal IReadOnlyList<Action<OutboxBusOptions>> Options => _configure;

    /// <summary>Uses a dialect. The database packages offer methods with readable names, such as <c>UsePostgreSql</c>.</summary>
    /// <param name="dialect">Creates the dialect for the tables the application's model names.</param>
    /// <exception cref="OutboxBusException">A dialect has already been chosen.</exception>
    public OutboxStoreConfigurator UseDialect(Func<OutboxTables, SqlDialect> dialect)
    {
        ArgumentNullException.ThrowIfNull(dialect);
        if (Dialect is not null)
            throw new OutboxBusException("Two database engines were chosen for one outbox; keep one Use... call.");
        Dialect = dialect;
        return this;
    }

    /// <summary>Tunes capture.</summary>
    public OutboxStoreConfigurator Publishing(Action<PublishingOptions> configure) => Configure(options => configure(options.Publishing), configure);

    /// <summary>Tunes delivery.</summary>
    public OutboxStoreConfigurator Delivery(Action<DeliveryOptions> configure) => Configure(options => configure(options.Delivery), configure);

    /// <summary>Tunes the inbox.</summary>
    public OutboxStoreConfigurator Inbox(Action<InboxOptions> configure) => Configure(options => configure(options.Inbox), configure);

    /// <summary>Tunes the health check.</summary>
    public OutboxStoreConfigurator Health(Action<HealthOptions> configure) => Configure(options => configure(options.Health), configure);

    private OutboxStoreConfigurator Configure(Action<OutboxBusOptions> apply, Delegate given)
    {
        ArgumentNullException.ThrowIfNull(given);
        _configure.Add(apply);
        return this;
    }
}
