using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using OutboxBus;
using OutboxBus.MassTransit.Delivery;
using OutboxBus.RabbitMq.Delivery;

namespace MassTransit;

/// <summary>Tunes OutboxBus on RabbitMQ in an existing MassTransit application.</summary>
public static class OutboxBusRabbitMqExtensions
{
    /// <summary>
    /// Delivers stored messages past MassTransit's send path, straight to RabbitMQ's client: the same messages to the
    /// same exchanges, at less than half of the processor time. MassTransit still declares the topology, and sends what is out of
    /// the ordinary or recorded in a trace, and everything while the application filters or observes its sends (of publish
    /// observers only those that are registered in the container are seen). MassTransit's logs and metrics do not count
    /// what goes directly; those of OutboxBus do.
    /// </summary>
    /// <param name="bus">The bus being registered, with <c>AddOutboxBus</c> and <c>UsingRabbitMq</c>. With another transport the application does not start; MassTransit's in-memory one, put in for tests, is used as it is.</param>
    public static IBusRegistrationConfigurator SendDirectlyToRabbitMq(this IBusRegistrationConfigurator bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.TryAddSingleton<BusEnvelopeSender>();
        bus.TryAddSingleton<DirectChannels>();
        bus.TryAddSingleton<SendExtras>();
        bus.Replace(ServiceDescriptor.Singleton<IEnvelopeSender, DirectEnvelopeSender>());
        return bus;
    }
}
