using System.Diagnostics.Metrics;
using System.Reflection;
using MassTransit;
using MassTransit.DependencyInjection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using OutboxBus.Consuming;
using OutboxBus.Delivery;
using OutboxBus.Diagnostics;
using OutboxBus.EntityFrameworkCore.Publishing;
using OutboxBus.EntityFrameworkCore.Storage;
using OutboxBus.MassTransit.Consuming;
using OutboxBus.MassTransit.Delivery;
using OutboxBus.MassTransit.Publishing;
using OutboxBus.MassTransit.Sagas;
using OutboxBus.Publishing;
using OutboxBus.Retention;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit;

/// <summary>Puts the parts together; both entry points come here.</summary>
internal static class OutboxBusServices
{
    private const string HealthCheckName = "outboxbus";

    public static void Add<TDbContext>(IBusRegistrationConfigurator bus, OutboxStoreConfigurator store)
        where TDbContext : DbContext
    {
        var dialect = store.Dialect ?? throw new OutboxBusException(
            $"No database engine was chosen for the outbox of {typeof(TDbContext).Name}. Remedy: call store.UsePostgreSql() or store.UseSqlite(), from the package of that name.");
        if (bus.Any(service => service.ServiceType == typeof(IOutboxDatabase)))
            throw new OutboxBusException("AddOutboxBus was called twice for one bus. Keep one call.");

        AddOptions(bus, store);
        AddDiagnostics(bus);
        AddStorage<TDbContext>(bus, dialect);
        AddPublishing(bus);
        AddDelivery(bus, typeof(TDbContext).Assembly);
        AddConsuming(bus);
        // Asked when the registration is complete, for sagas that have no repository by then.
        bus.SetSagaRepositoryProvider(new DbContextSagaRepositoryProvider<TDbContext>());
    }

    private static void AddOptions(IServiceCollection services, OutboxStoreConfigurator store)
    {
        var options = services.AddOptions<OutboxBusOptions>().ValidateOnStart();
        foreach (var configure in store.Options)
            options.Configure(configure);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<OutboxBusOptions>, OutboxBusOptionsValidator>());
        services.TryAddSingleton(provider => provider.GetRequiredService<IOptions<OutboxBusOptions>>().Value);
        services.TryAddSingleton(TimeProvider.System);
    }

    private static void AddDiagnostics(IServiceCollection services)
    {
        services.TryAddSingleton(FaultPoints.None);
        services.AddSingleton(provider => new OutboxMetrics(provider.GetService<IMeterFactory>(), Envelope.DefaultBus));
        services.AddHealthChecks().Add(new HealthCheckRegistration(
            HealthCheckName,
            provider => new OutboxHealthCheck(
                Envelope.DefaultBus,
                provider.GetRequiredService<IOutboxDatabase>(),
                provider.GetRequiredService<OutboxBusOptions>().Health,
                provider.GetRequiredService<OutboxMetrics>()),
            failureStatus: null,
            tags: ["ready", HealthCheckName]));
        services.AddSingleton<IHostedService>(provider => new GaugeReader(
            Envelope.DefaultBus,
            provider.GetRequiredService<IOutboxDatabase>(),
            provider.GetRequiredService<OutboxBusOptions>().Health,
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<OutboxMetrics>()));
    }

    private static void AddStorage<TDbContext>(IServiceCollection services, Func<OutboxTables, SqlDialect> dialect)
        where TDbContext : DbContext
    {
        services.AddSingleton<IOutboxDatabase>(provider => new DbContextDatabase<TDbContext>(provider.GetRequiredService<IServiceScopeFactory>(), dialect));
        services.AddSingleton(provider => new DatabaseOutage(
            provider.GetRequiredService<IOutboxDatabase>().Key,
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<ILogger<DatabaseOutage>>()));
        services.AddSingleton(provider => new UnitOfWorkRegistry(
            provider.GetRequiredService<IOutboxDatabase>(),
            Envelope.DefaultBus,
            provider.GetRequiredService<HandOff>(),
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<ILogger<DbContextUnitOfWork>>()));
        services.AddSingleton<OutboxInterceptor>();
        services.AddScoped<IUnitOfWorkSource, DbContextUnitOfWorkSource<TDbContext>>();
        services.ConfigureDbContext<TDbContext>((provider, context) => context
            .AddInterceptors(provider.GetRequiredService<OutboxInterceptor>())
            // The statement that inserts envelopes travels with a command of EF Core's, which does not expect its result.
            .ConfigureWarnings(warnings => warnings.Ignore(RelationalEventId.UnexpectedTrailingResultSetWhenSaving)));
    }

    private static void AddPublishing(IServiceCollection services)
    {
        services.AddSingleton(provider => new BypassGuard(
            provider.GetRequiredService<OutboxBusOptions>().Publishing,
            provider.GetRequiredService<OutboxMetrics>(),
            provider.GetRequiredService<ILogger<BypassGuard>>(),
            provider.GetService<OutboxWatch>()));
        // Late: the bus asks for its observers before the options are validated, and would wrap what they complain about.
        services.AddSingleton(provider => new BypassObserver(new Lazy<BypassGuard>(provider.GetRequiredService<BypassGuard>)));
        services.AddPublishObserver(provider => provider.GetRequiredService<BypassObserver>());
        services.AddSendObserver(provider => provider.GetRequiredService<BypassObserver>());
        services.AddSingleton<IHostedService>(provider => new RiderCheck(
            services,
            provider.GetRequiredService<OutboxBusOptions>().Publishing,
            provider.GetRequiredService<ILogger<RiderCheck>>()));
        services.AddSingleton(provider => new EnvelopeIntake(
            Envelope.DefaultBus,
            provider.GetRequiredService<OutboxBusOptions>(),
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<OutboxMetrics>()));
        services.AddScoped(provider => new UnsavedMessageGuard(
            provider.GetRequiredService<IUnitOfWorkSource>(),
            provider.GetRequiredService<OutboxBusOptions>().Publishing,
            provider.GetRequiredService<OutboxMetrics>(),
            provider.GetRequiredService<ILogger<UnsavedMessageGuard>>(),
            provider.GetService<OutboxWatch>()));
        services.AddScoped<IOutboxContext, ScopedOutboxContext>();
        ScheduledMessages.Register(services);
        // Everything that publishes in a scope goes through this one: IPublishEndpoint, ISendEndpointProvider, schedulers, routing slips.
        services.Replace(ServiceDescriptor.Scoped<IScopedBusContextProvider<IBus>, OutboxScopedBusContextProvider>());
    }

    private static void AddDelivery(IServiceCollection services, Assembly contextAssembly)
    {
        services.AddSingleton<WakeUp>();
        services.AddSingleton(provider => new HandOff(
            provider.GetRequiredService<OutboxBusOptions>().Delivery,
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<WakeUp>(),
            provider.GetRequiredService<OutboxMetrics>()));
        services.AddSingleton<MessageTypes>();
        services.AddSingleton(KnownTypes.OfAssembly(contextAssembly));
        if (Assembly.GetEntryAssembly() is { } application && application != contextAssembly)
            services.AddSingleton(KnownTypes.OfAssembly(application));
        // A transport package may have registered its own already.
        services.TryAddSingleton<IEnvelopeSender, BusEnvelopeSender>();
        services.AddSingleton<IHostedService>(provider => new DeliveryService(
            Envelope.DefaultBus,
            provider.GetRequiredService<IOutboxDatabase>(),
            provider.GetRequiredService<DatabaseOutage>(),
            provider.GetRequiredService<IEnvelopeSender>(),
            provider.GetRequiredService<HandOff>(),
            provider.GetRequiredService<WakeUp>(),
            provider.GetRequiredService<OutboxBusOptions>().Delivery,
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<OutboxMetrics>(),
            provider.GetRequiredService<FaultPoints>(),
            provider.GetRequiredService<ILogger<DeliveryService>>()));
    }

    private static void AddConsuming(IBusRegistrationConfigurator bus)
    {
        bus.AddSingleton(provider => new InboxGate(
            provider.GetRequiredService<IOutboxDatabase>(),
            provider.GetRequiredService<OutboxBusOptions>().Inbox,
            provider.GetRequiredService<OutboxMetrics>(),
            provider.GetRequiredService<FaultPoints>(),
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<ILogger<InboxGate>>()));
        bus.AddSingleton<IInbox, Inbox>();
        bus.AddSingleton<IHostedService>(provider => new InboxPurge(
            provider.GetRequiredService<IOutboxDatabase>(),
            provider.GetRequiredService<DatabaseOutage>(),
            provider.GetRequiredService<OutboxBusOptions>().Inbox,
            provider.GetRequiredService<TimeProvider>(),
            provider.GetRequiredService<ILogger<InboxPurge>>()));
        bus.AddConfigureEndpointsCallback((context, _, endpoint) => UseInbox(endpoint, context));
    }

    public static void UseInbox(IReceiveEndpointConfigurator endpoint, IRegistrationContext context)
    {
        var observer = new InboxObserver(context, context.GetRequiredService<TimeProvider>());
        endpoint.ConnectConsumerConfigurationObserver(observer);
        endpoint.ConnectSagaConfigurationObserver(observer);
        endpoint.ConnectHandlerConfigurationObserver(observer);
        endpoint.ConnectActivityConfigurationObserver(observer);
    }
}
