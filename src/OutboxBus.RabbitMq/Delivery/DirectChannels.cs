using MassTransit;
using MassTransit.InMemoryTransport.Configuration;
using MassTransit.RabbitMqTransport;
using MassTransit.RabbitMqTransport.Configuration;
using MassTransit.Serialization;
using MassTransit.Transports;
using OutboxBus.MassTransit.Delivery;
using RabbitMQ.Client;

namespace OutboxBus.RabbitMq.Delivery;

/// <summary>The channel in use, on MassTransit's connection: its TLS, cluster nodes, credentials and reconnects.</summary>
internal sealed class DirectChannels
{
    private readonly IBus _bus;
    private readonly MessageTypes _types;
    private readonly IRabbitMqHostConfiguration? _host;
    private DirectChannel? _current;
    private int _opening;

    /// <exception cref="OutboxBusException">The bus is on another broker.</exception>
    public DirectChannels(IBusInstance bus, MessageTypes types)
    {
        _bus = bus.Bus;
        _types = types;
        _host = bus.HostConfiguration as IRabbitMqHostConfiguration;
        // Tests put the in-memory transport in the place of the broker, on purpose.
        if (_host is null && bus.HostConfiguration is not IInMemoryHostConfiguration)
            throw new OutboxBusException($"Messages are to be sent directly to RabbitMQ, but the bus is on {bus.HostConfiguration.HostAddress.Scheme}. Remedy: configure UsingRabbitMq, or remove SendDirectlyToRabbitMq.");
    }

    public bool AreUsable => _host is not null;

    /// <summary>The channel to publish on; null: there is none at present.</summary>
    public DirectChannel? Current => Volatile.Read(ref _current) is { IsOpen: true } channel ? channel : null;

    /// <summary>Opens a channel in the background where there is none; called when the broker is known to be there.</summary>
    public void Open()
    {
        if (Current is null && Interlocked.Exchange(ref _opening, 1) == 0)
            _ = OpenAsync();
    }

    /// <summary>Nothing more is published on a channel that is closed or stuck, and what it knew is forgotten.</summary>
    public void Replace(DirectChannel channel)
    {
        Interlocked.CompareExchange(ref _current, null, channel);
        channel.Abandon();
    }

    /// <summary>Notes where an envelope goes that MassTransit has just sent, topology included.</summary>
    public async Task LearnAsync(DirectChannel channel, Envelope envelope)
    {
        if (!channel.MayLearn(envelope))
            return;
        DirectRoute? route = null;
        try
        {
            route = await FindRouteAsync(envelope).ConfigureAwait(false);
        }
        catch (Exception)
        {
            // The message is sent; its like will stay with MassTransit, which has the word on what is wrong.
        }

        channel.Learn(envelope, route);
    }

    private async Task OpenAsync()
    {
        try
        {
            await _host!.ConnectionContextSupervisor.Send(new ChannelPipe(channel => Volatile.Write(ref _current, new DirectChannel(channel))), CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception)
        {
            // MassTransit reports a connection that is down. The next message it gets through tries again.
        }
        finally
        {
            Volatile.Write(ref _opening, 0);
        }
    }

    /// <summary>Asks MassTransit's own endpoint for its exchange, without sending.</summary>
    private async Task<DirectRoute?> FindRouteAsync(Envelope envelope)
    {
        // Names a new exchange each time.
        if (envelope.Destination?.Contains('*', StringComparison.Ordinal) == true)
            return null;
        var found = envelope.Destination is { } destination ? _bus.GetSendEndpoint(new Uri(destination)) : _types.FindPublishEndpoint(envelope.MessageType, _bus);
        if (found is null || await found.ConfigureAwait(false) is not ITransportSendEndpoint endpoint)
            return null;
        var context = await endpoint.CreateSendContext(new SerializedMessageBody(), Pipe.Empty<SendContext<SerializedMessageBody>>(), CancellationToken.None).ConfigureAwait(false);
        return context is RabbitMqSendContext { Exchange: { Length: > 0 } exchange } && exchange != RabbitMqExchangeNames.ReplyTo && IsLasting(context.DestinationAddress!)
            ? new DirectRoute(exchange)
            : null;
    }

    /// <summary>
    /// Whether the exchange stays. One that goes with its last consumer, such as that of a requester, would close the
    /// channel with hundreds of other messages on it. Delaying exchanges have rules of their own.
    /// </summary>
    private bool IsLasting(Uri address)
    {
        var own = new RabbitMqHostAddress(_host!.HostAddress);
        return new RabbitMqEndpointAddress(_host.HostAddress, address) is { Durable: true, AutoDelete: false, DelayedType: null } target
            && target.ExchangeType != RabbitMqEndpointAddress.DelayedMessageExchangeType
            && target.Host == own.Host && target.Port == own.Port && target.VirtualHost == own.VirtualHost;
    }

    private sealed class ChannelPipe(Action<IChannel> opened) : IPipe<ConnectionContext>
    {
        public async Task Send(ConnectionContext context)
            // No limit on what is in flight: delivery has its own.
            => opened(await context.Connection.CreateChannelAsync(new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true), context.CancellationToken).ConfigureAwait(false));

        public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-channel");
    }
}
