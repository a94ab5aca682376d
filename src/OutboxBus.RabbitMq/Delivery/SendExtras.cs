using MassTransit;
using MassTransit.Configuration;
using MassTransit.Observables;
using MassTransit.Serialization;
using MassTransit.Transports;
using OutboxBus.MassTransit.Publishing;

namespace OutboxBus.RabbitMq.Delivery;

/// <summary>What the application has put around MassTransit's sends, and would miss if they did not happen: filters and observers.</summary>
internal sealed class SendExtras(IBusInstance bus, IEnumerable<ISendObserver> sendObservers, IEnumerable<IPublishObserver> publishObservers)
{
    private readonly Lazy<bool> _configured = new(() => HasFilters(bus.HostConfiguration.BusConfiguration.BusEndpointConfiguration)
        || sendObservers.Any(observer => observer is not BypassObserver) || publishObservers.Any(observer => observer is not BypassObserver));

    private readonly SendObservable? _connected = bus.HostConfiguration.SendObservers as SendObservable;
    private readonly int _registered = sendObservers.Count();

    /// <summary>Whether there are any; observers may come and go while the bus runs.</summary>
    public bool Any => _configured.Value || _connected is null || _connected.Count > _registered;

    // Of the type that stored messages travel as: filters for the application's own types have run at the capture.
    private static bool HasFilters(IEndpointConfiguration endpoint)
        => endpoint.Send.Specification.GetMessageSpecification<SerializedMessageBody>().BuildMessagePipe().IsNotEmpty()
            || endpoint.Publish.Specification.GetMessageSpecification<SerializedMessageBody>().BuildMessagePipe().IsNotEmpty();
}
