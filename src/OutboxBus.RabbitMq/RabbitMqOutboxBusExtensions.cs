using MassTransit;
using OutboxBus.MassTransit;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Chooses RabbitMQ as the transport.</summary>
public static class RabbitMqOutboxBusExtensions
{
    /// <summary>Sends and receives over RabbitMQ, with publisher confirms: a message leaves the outbox only when the broker has confirmed it.</summary>
    /// <param name="bus">The bus being described.</param>
    /// <param name="uri">The broker, such as <c>amqp://user:password@host:5672/virtual-host</c>.</param>
    /// <param name="configure">Further settings of the transport; null: none.</param>
    /// <param name="sendDirectly">
    /// Whether stored messages are delivered past MassTransit's send path, at less than half of the processor time, as
    /// <see cref="OutboxBusRabbitMqExtensions.SendDirectlyToRabbitMq"/> says; default true.
    /// </param>
    /// <exception cref="ArgumentException"><paramref name="uri"/> is no amqp or amqps URI.</exception>
    public static OutboxBusConfigurator UseRabbitMq(this OutboxBusConfigurator bus, string uri, Action<IRabbitMqBusFactoryConfigurator>? configure = null, bool sendDirectly = true)
    {
        ArgumentNullException.ThrowIfNull(bus);
        ArgumentException.ThrowIfNullOrWhiteSpace(uri);
        if (!Uri.TryCreate(uri, UriKind.Absolute, out var address) || address.Scheme is not ("amqp" or "amqps" or "rabbitmq" or "rabbitmqs"))
        {
            // The text may hold a password: it is not repeated.
            throw new ArgumentException("The RabbitMQ address is no URI such as \"amqp://user:password@host:5672/virtual-host\".", nameof(uri));
        }

        return bus.UseTransport(registration =>
        {
            if (sendDirectly)
                registration.SendDirectlyToRabbitMq();
            registration.UsingRabbitMq((context, transport) =>
            {
                transport.Host(address);
                configure?.Invoke(transport);
                transport.ConfigureEndpoints(context);
            });
        });
    }
}
