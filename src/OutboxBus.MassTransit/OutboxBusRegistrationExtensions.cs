using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus;
using OutboxBus.MassTransit;
using OutboxBus.MassTransit.Delivery;

namespace MassTransit;

/// <summary>Adds OutboxBus to an existing MassTransit application.</summary>
public static class OutboxBusRegistrationExtensions
{
    /// <summary>
    /// Stores what scopes and consumers publish and send in the transaction of <typeparamref name="TDbContext"/>, delivers
    /// it after commit, and lets every consumer configured by <c>ConfigureEndpoints</c> consume each message once. The
    /// DbContext's model must call <c>modelBuilder.AddOutboxBus(Database)</c>.
    /// </summary>
    /// <param name="bus">The bus being registered.</param>
    /// <param name="configure">Chooses the database engine and tunes the outbox.</param>
    /// <exception cref="OutboxBusException">No engine was chosen, or the method was called twice.</exception>
    public static IBusRegistrationConfigurator AddOutboxBus<TDbContext>(this IBusRegistrationConfigurator bus, Action<OutboxStoreConfigurator> configure)
        where TDbContext : DbContext
    {
        ArgumentNullException.ThrowIfNull(bus);
        ArgumentNullException.ThrowIfNull(configure);
        var store = new OutboxStoreConfigurator();
        configure(store);
        OutboxBusServices.Add<TDbContext>(bus, store);
        return bus;
    }

    /// <summary>
    /// Names the assemblies whose types are messages this application publishes. The application's own assembly, that of
    /// its DbContext and those they reference are known without it.
    /// </summary>
    public static IBusRegistrationConfigurator AddMessages(this IBusRegistrationConfigurator bus, params Assembly[] assemblies)
    {
        ArgumentNullException.ThrowIfNull(bus);
        ArgumentNullException.ThrowIfNull(assemblies);
        foreach (var assembly in assemblies)
            bus.AddSingleton(KnownTypes.OfAssembly(assembly));
        return bus;
    }

    /// <summary>Names one message type this application publishes; needed for constructed generic types.</summary>
    public static IBusRegistrationConfigurator AddMessage<T>(this IBusRegistrationConfigurator bus)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddSingleton(KnownTypes.Of(typeof(T)));
        return bus;
    }

    /// <summary>
    /// Puts the inbox on an endpoint configured by hand with <c>cfg.ReceiveEndpoint</c>; call it before the consumers are
    /// configured. Endpoints made by <c>ConfigureEndpoints</c> have it.
    /// </summary>
    public static void UseOutboxBus(this IReceiveEndpointConfigurator endpoint, IRegistrationContext context)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(context);
        OutboxBusServices.UseInbox(endpoint, context);
    }
}
