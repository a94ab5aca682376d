using MassTransit;
using OutboxBus.MassTransit;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Adds a bus with an outbox and an inbox to a new application.</summary>
public static class OutboxBusServiceCollectionExtensions
{
    /// <summary>
    /// Adds a bus whose messages are stored in the application's own transactions, delivered after commit and consumed
    /// once. An application that already calls <c>AddMassTransit</c> calls <c>AddOutboxBus</c> inside that instead.
    /// </summary>
    /// <exception cref="global::OutboxBus.OutboxBusException">The database or the transport is missing, or an option of a handler is wrong.</exception>
    public static IServiceCollection AddOutboxBus(this IServiceCollection services, Action<OutboxBusConfigurator> configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(configure);
        var bus = new OutboxBusConfigurator();
        configure(bus);
        return services.AddMassTransit(bus.Apply);
    }
}
