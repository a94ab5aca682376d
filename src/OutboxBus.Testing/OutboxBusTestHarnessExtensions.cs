using MassTransit;
using MassTransit.Configuration;
using MassTransit.DependencyInjection;
using MassTransit.InMemoryTransport.Configuration;
using MassTransit.Transports;
using Microsoft.Extensions.DependencyInjection.Extensions;
using OutboxBus;
using OutboxBus.Diagnostics;
using OutboxBus.EntityFrameworkCore.Publishing;
using OutboxBus.Testing;
using OutboxBus.Testing.Database;
using OutboxBus.Testing.Watching;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Puts a test harness on top of an application's own registration.</summary>
public static class OutboxBusTestHarnessExtensions
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(20);

    /// <summary>
    /// Lets an application with OutboxBus run in a test, as it is registered but without servers: its transport becomes
    /// MassTransit's in-memory one, its database SQLite in memory, with a database of its own for each harness. Consumers,
    /// sagas, retries, definitions and everything else stay. Call it after the application's registration, such as in
    /// <c>ConfigureTestServices</c>; what <c>UsingRabbitMq</c> and the like configure by hand is not seen.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">What to leave as it is; null: nothing.</param>
    /// <exception cref="OutboxBusException">The application has not registered OutboxBus before.</exception>
    public static IServiceCollection AddOutboxBusTestHarness(this IServiceCollection services, Action<OutboxBusTestHarnessOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        var options = new OutboxBusTestHarnessOptions();
        configure?.Invoke(options);
        if (options.TimeLimit <= TimeSpan.Zero)
            throw new OutboxBusException($"TimeLimit is {options.TimeLimit}; it must be positive.");
        var context = ContextOf(services);

        var watch = new HarnessWatch();
        var faults = new HarnessFaults(watch);
        services.AddSingleton<OutboxWatch>(watch);
        services.Replace(ServiceDescriptor.Singleton(faults.Points));
        services.AddReceiveObserver(_ => watch.Receiving);
        services.PostConfigure<OutboxBusOptions>(bus =>
        {
            bus.Delivery.Enabled = true;
            bus.Delivery.PollInterval = bus.Delivery.MinOutagePause = PollInterval;
            bus.Delivery.MaxOutagePause = 2 * PollInterval;
            bus.Delivery.SettleDelay = TimeSpan.Zero;
        });
        services.Configure<MassTransitHostOptions>(host => host.WaitUntilStarted = true);
        services.AddSingleton(provider =>
        {
            faults.Use(provider);
            return new OutboxBusTestHarness(provider, context, watch, faults, options);
        });
        ReplaceTransport(services);
        if (options.ReplacesDatabase)
            SqliteInMemory.Replace(services, context);
        return services;
    }

    /// <summary>The harness of an application whose services have had <see cref="AddOutboxBusTestHarness"/>.</summary>
    /// <exception cref="OutboxBusException">They have not.</exception>
    public static OutboxBusTestHarness GetOutboxBusTestHarness(this IServiceProvider provider)
    {
        ArgumentNullException.ThrowIfNull(provider);
        return provider.GetService<OutboxBusTestHarness>() ?? throw new OutboxBusException("There is no test harness. Remedy: call services.AddOutboxBusTestHarness() after the application's own registration.");
    }

    /// <summary>The DbContext that holds the application's outbox.</summary>
    private static Type ContextOf(IServiceCollection services)
        => services.LastOrDefault(service => service.ServiceType == typeof(IUnitOfWorkSource))?.ImplementationType is { IsGenericType: true } source && source.GetGenericTypeDefinition() == typeof(DbContextUnitOfWorkSource<>)
            ? source.GetGenericArguments()[0]
            : throw new OutboxBusException("The services have no OutboxBus. Remedy: call AddOutboxBusTestHarness after the application's AddOutboxBus, such as in ConfigureTestServices.");

    /// <summary>Only what makes the bus is replaced: all else that MassTransit has registered asks for it.</summary>
    private static void ReplaceTransport(IServiceCollection services)
    {
        services.RemoveAll<Bind<IBus, IBusInstance>>();
        services.AddSingleton(provider =>
        {
            var factory = new InMemoryRegistrationBusFactory(null, (context, transport) =>
            {
                transport.UseDelayedMessageScheduler();
                transport.ConfigureEndpoints(context);
            });
            var context = provider.GetRequiredService<Bind<IBus, IBusRegistrationContext>>().Value;
            var specifications = provider.GetServices<Bind<IBus, IBusInstanceSpecification>>().Select(specification => specification.Value);
            return Bind<IBus>.Create(factory.CreateBus(context, specifications, ""));
        });
    }
}
