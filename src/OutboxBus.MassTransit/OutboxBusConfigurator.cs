using System.Reflection;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using OutboxBus.MassTransit.Consuming;

namespace OutboxBus.MassTransit;

/// <summary>Describes a new application's bus: its database, its transport, its handlers and sagas.</summary>
public sealed class OutboxBusConfigurator
{
    private readonly OutboxStoreConfigurator _store = new();
    private readonly List<Consumption> _consumptions = [];
    private readonly List<Action<IBusRegistrationConfigurator>> _extras = [];
    private Action<IBusRegistrationConfigurator>? _outbox;
    private Action<IBusRegistrationConfigurator>? _transport;

    /// <summary>Keeps the outbox and the inbox in the database of a DbContext.</summary>
    /// <param name="configure">Chooses the database engine, such as <c>store => store.UsePostgreSql()</c>.</param>
    public OutboxBusConfigurator UseEntityFrameworkCore<TDbContext>(Action<OutboxStoreConfigurator> configure)
        where TDbContext : DbContext
    {
        ArgumentNullException.ThrowIfNull(configure);
        if (_outbox is not null)
            throw new OutboxBusException("UseEntityFrameworkCore was called twice for one bus; keep one call.");
        configure(_store);
        _outbox = bus => OutboxBusServices.Add<TDbContext>(bus, _store);
        return this;
    }

    /// <summary>Uses MassTransit's in-memory transport: for tests and examples, as messages in it die with the process.</summary>
    public OutboxBusConfigurator UseInMemory(Action<IInMemoryBusFactoryConfigurator>? configure = null) => UseTransport(bus => bus.UsingInMemory((context, transport) =>
    {
        configure?.Invoke(transport);
        transport.ConfigureEndpoints(context);
    }));

    /// <summary>Uses any MassTransit transport; the callback must call <c>ConfigureEndpoints</c>. The transport packages offer shorter methods.</summary>
    /// <param name="configure">Such as <c>bus => bus.UsingAmazonSqs(...)</c>.</param>
    public OutboxBusConfigurator UseTransport(Action<IBusRegistrationConfigurator> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        if (_transport is not null)
            throw new OutboxBusException("Two transports were chosen for one bus; keep one Use... call.");
        _transport = configure;
        return this;
    }

    /// <summary>Adds every <see cref="IMessageHandler{T}"/> of an assembly, each with its own endpoint; those added before keep their options.</summary>
    /// <exception cref="OutboxBusException">The assembly has no handler.</exception>
    public OutboxBusConfigurator AddHandlers(Assembly assembly, Action<Type, EndpointOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(assembly);
        var handlers = assembly.GetTypes().Where(type => type is { IsAbstract: false, IsGenericTypeDefinition: false } && HandlerTypes.MessagesOf(type).Count > 0).ToList();
        if (handlers.Count == 0)
            throw new OutboxBusException($"The assembly {assembly.GetName().Name} has no class that implements IMessageHandler<T>.");
        foreach (var handler in handlers.Where(type => _consumptions.All(added => added.Consumer != type)))
            AddHandler(handler, options => configure?.Invoke(handler, options));
        return this;
    }

    /// <summary>Adds one handler; given again, replaces its options.</summary>
    /// <exception cref="OutboxBusException">The class implements no <see cref="IMessageHandler{T}"/>, or an option is wrong.</exception>
    public OutboxBusConfigurator AddHandler<THandler>(Action<EndpointOptions>? configure = null)
        where THandler : class
    {
        if (HandlerTypes.MessagesOf(typeof(THandler)).Count == 0)
            throw new OutboxBusException($"{typeof(THandler)} implements no IMessageHandler<T>.");
        AddHandler(typeof(THandler), configure);
        return this;
    }

    /// <summary>
    /// Adds a state machine whose instances are kept in the DbContext given to <see cref="UseEntityFrameworkCore{TDbContext}"/>,
    /// whose model calls <c>modelBuilder.AddSaga&lt;TSaga&gt;()</c>.
    /// </summary>
    public OutboxBusConfigurator AddSaga<TStateMachine, TSaga>()
        where TStateMachine : class, SagaStateMachine<TSaga>
        where TSaga : class, SagaStateMachineInstance => AddSaga<TStateMachine, TSaga>(_ => { });

    /// <inheritdoc cref="AddSaga{TStateMachine, TSaga}()"/>
    /// <param name="configure">The options of its endpoint and its instances; given again, they replace those given before.</param>
    /// <exception cref="OutboxBusException">An option is wrong.</exception>
    public OutboxBusConfigurator AddSaga<TStateMachine, TSaga>(Action<SagaOptions<TSaga>> configure)
        where TStateMachine : class, SagaStateMachine<TSaga>
        where TSaga : class, SagaStateMachineInstance => AddSaga(configure, bus => bus.AddSagaStateMachine<TStateMachine, TSaga>());

    /// <summary>The same for a saga that consumes its messages by itself (<c>InitiatedBy</c>, <c>Orchestrates</c>, <c>Observes</c>).</summary>
    public OutboxBusConfigurator AddSaga<TSaga>()
        where TSaga : class, ISaga => AddSaga<TSaga>(_ => { });

    /// <inheritdoc cref="AddSaga{TSaga}()"/>
    /// <param name="configure">The options of its endpoint and its instances; given again, they replace those given before.</param>
    /// <exception cref="OutboxBusException">An option is wrong.</exception>
    public OutboxBusConfigurator AddSaga<TSaga>(Action<SagaOptions<TSaga>> configure)
        where TSaga : class, ISaga => AddSaga(configure, bus => bus.AddSaga<TSaga>());

    /// <summary>Tunes capture.</summary>
    public OutboxBusConfigurator Publishing(Action<PublishingOptions> configure) => Tune(() => _store.Publishing(configure));

    /// <summary>Tunes delivery.</summary>
    public OutboxBusConfigurator Delivery(Action<DeliveryOptions> configure) => Tune(() => _store.Delivery(configure));

    /// <summary>Tunes the inbox.</summary>
    public OutboxBusConfigurator Inbox(Action<InboxOptions> configure) => Tune(() => _store.Inbox(configure));

    /// <summary>Tunes the health check.</summary>
    public OutboxBusConfigurator Health(Action<HealthOptions> configure) => Tune(() => _store.Health(configure));

    /// <summary>Anything else MassTransit can do: consumers, request clients, formatters.</summary>
    public OutboxBusConfigurator MassTransit(Action<IBusRegistrationConfigurator> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        _extras.Add(configure);
        return this;
    }

    internal void Apply(IBusRegistrationConfigurator bus)
    {
        var errors = new List<string>();
        if (_outbox is null)
            errors.Add("no database was chosen: call bus.UseEntityFrameworkCore<TDbContext>(store => store.Use...())");
        if (_transport is null)
            errors.Add("no transport was chosen: call bus.UseRabbitMq(...), bus.UseInMemory() or bus.UseTransport(...)");
        foreach (var endpoint in _consumptions.GroupBy(consumption => consumption.Options.EndpointName!))
        {
            if (endpoint.Any(consumption => !consumption.Options.RetryDelays.SequenceEqual(endpoint.First().Options.RetryDelays)))
                errors.Add($"the handlers and sagas on endpoint {endpoint.Key} have different RetryDelays, which belong to the endpoint: give them the same, or endpoints of their own");
        }

        if (errors.Count > 0)
            throw new OutboxBusException($"AddOutboxBus is incomplete or contradictory: {string.Join("; ", errors)}.");

        bus.SetKebabCaseEndpointNameFormatter();
        _outbox!(bus);
        foreach (var consumption in _consumptions)
            consumption.Register(bus);
        foreach (var configure in _extras)
            configure(bus);
        bus.AddConfigureEndpointsCallback(ConfigureRetries);
        _transport!(bus);
    }

    private void ConfigureRetries(string name, IReceiveEndpointConfigurator endpoint)
    {
        if (_consumptions.Find(consumption => consumption.Options.EndpointName == name)?.Options.RetryDelays is { Count: > 0 } delays)
            endpoint.UseMessageRetry(retry => retry.Intervals([.. delays]));
    }

    private void AddHandler(Type handler, Action<EndpointOptions>? configure)
    {
        if (HandlerTypes.MessagesOf(handler).FirstOrDefault(message => message.Namespace is null) is { } nameless)
            throw new OutboxBusException($"The message type {nameless}, handled by {handler}, has no namespace, and so no address on the bus. Put message types into a namespace.");
        Add(handler, new EndpointOptions(), configure, (bus, options) =>
        {
            bus.TryAddScoped(handler);
            foreach (var message in HandlerTypes.MessagesOf(handler))
                bus.AddConsumer(HandlerTypes.ConsumerOf(handler, message)).Endpoint(options.ApplyTo);
        });
    }

    private OutboxBusConfigurator AddSaga<TSaga>(Action<SagaOptions<TSaga>> configure, Func<IBusRegistrationConfigurator, ISagaRegistrationConfigurator<TSaga>> register)
        where TSaga : class, ISaga
    {
        Add(typeof(TSaga), new SagaOptions<TSaga>(), configure, (bus, options) =>
        {
            bus.AddSingleton(options.Repository);
            register(bus).Endpoint(options.ApplyTo);
        });
        return this;
    }

    private void Add<TOptions>(Type consumer, TOptions options, Action<TOptions>? configure, Action<IBusRegistrationConfigurator, TOptions> register)
        where TOptions : EndpointOptions
    {
        configure?.Invoke(options);
        options.Validate(consumer);
        options.EndpointName ??= HandlerTypes.EndpointName(consumer);
        _consumptions.RemoveAll(added => added.Consumer == consumer);
        _consumptions.Add(new Consumption(consumer, options, bus => register(bus, options)));
    }

    private OutboxBusConfigurator Tune(Action tune)
    {
        tune();
        return this;
    }

    /// <summary>A handler or saga, and how MassTransit gets to know it.</summary>
    private sealed record Consumption(Type Consumer, EndpointOptions Options, Action<IBusRegistrationConfigurator> Register);
}
