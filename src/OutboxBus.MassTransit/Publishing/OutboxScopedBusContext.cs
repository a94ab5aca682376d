using MassTransit;
using MassTransit.Clients;
using MassTransit.DependencyInjection;
using MassTransit.Middleware;
using MassTransit.Middleware.Outbox;
using MassTransit.Transports;
using OutboxBus.Publishing;

namespace OutboxBus.MassTransit.Publishing;

/// <summary>
/// What a service scope publishes and sends with. Decided for each message, not when the scope begins: inside a consumer
/// its context, elsewhere the scope's unit of work. Deciding early would let messages escape from a DbContext that takes
/// a publisher, and would make the two depend on each other in a circle.
/// </summary>
internal sealed class OutboxScopedBusContext : ScopedBusContext, IPublishEndpointProvider, ISendEndpointProvider
{
    private readonly IBus _bus;
    private readonly IClientFactory _clientFactory;
    private readonly IScopedConsumeContextProvider _consuming;
    private readonly IServiceProvider _services;
    private readonly Lazy<OutboxPublishEndpointProvider> _publish;
    private readonly Lazy<OutboxSendEndpointProvider> _send;

    public OutboxScopedBusContext(IBus bus, IClientFactory clientFactory, IScopedConsumeContextProvider consuming, IServiceProvider services)
    {
        _bus = bus;
        _clientFactory = clientFactory;
        _consuming = consuming;
        _services = services;
        _publish = new(() => new OutboxPublishEndpointProvider(new EnvelopeCapture(services, isPublish: true), bus));
        _send = new(() => new OutboxSendEndpointProvider(new EnvelopeCapture(services, isPublish: false), bus));
        PublishEndpoint = new PublishEndpoint(this);
    }

    public ISendEndpointProvider SendEndpointProvider => this;

    public IPublishEndpoint PublishEndpoint { get; }

    public IScopedClientFactory ClientFactory => _consuming.GetContext() is { } consume
        ? new ScopedClientFactory(_clientFactory, consume)
        : new ScopedClientFactory(new ClientFactory(new ScopedClientFactoryContext(_clientFactory, _services)), null);

    public ConnectHandle ConnectPublishObserver(IPublishObserver observer) => _bus.ConnectPublishObserver(observer);

    public ConnectHandle ConnectSendObserver(ISendObserver observer) => _bus.ConnectSendObserver(observer);

    public async Task<ISendEndpoint> GetPublishSendEndpoint<T>()
        where T : class
    {
        var consume = _consuming.GetContext();
        var provider = CapturedByInbox(consume) ? consume!.ReceiveContext.PublishEndpointProvider : _publish.Value;
        return Bind(await provider.GetPublishSendEndpoint<T>().ConfigureAwait(false), consume);
    }

    public async Task<ISendEndpoint> GetSendEndpoint(Uri address)
    {
        var consume = _consuming.GetContext();
        var provider = CapturedByInbox(consume) ? consume!.ReceiveContext.SendEndpointProvider : _send.Value;
        return Bind(await provider.GetSendEndpoint(address).ConfigureAwait(false), consume);
    }

    private static bool CapturedByInbox(ConsumeContext? consume) => consume is not null && consume.TryGetPayload<OutboxConsumeContext>(out _);

    /// <summary>A message sent while another is consumed carries on its conversation.</summary>
    private static ISendEndpoint Bind(ISendEndpoint endpoint, ConsumeContext? consume) => consume is null ? endpoint : new ConsumeSendEndpoint(endpoint, consume);
}

/// <summary>Takes the place of MassTransit's own provider, which decides in its constructor.</summary>
internal sealed class OutboxScopedBusContextProvider(
    IBus bus,
    Bind<IBus, IClientFactory> clientFactory,
    IScopedConsumeContextProvider consuming,
    IServiceProvider services,
    BypassGuard guard) : IScopedBusContextProvider<IBus>, IDisposable
{
    // Whoever has asked for a publisher of the scope is not expected to publish past it. In the scope of a consumed message the
    // inbox says when that begins: outside it MassTransit itself publishes faults and sends redeliveries, from the same flow.
    private readonly IDisposable? _inside = consuming.HasContext ? null : guard.Enter();

    public ScopedBusContext Context { get; } = new OutboxScopedBusContext(bus, clientFactory.Value, consuming, services);

    public void Dispose() => _inside?.Dispose();
}
