using System.Collections.Concurrent;
using RabbitMQ.Client;

namespace OutboxBus.RabbitMq.Delivery;

/// <summary>One channel with publisher confirms, and what is known to be deployed as long as it lives.</summary>
internal sealed class DirectChannel(IChannel channel)
{
    // More types and destinations than an application has by design; beyond it MassTransit sends, which is merely slower.
    private const int MaxRoutes = 10_000;

    private readonly ConcurrentDictionary<string, DirectRoute?> _routes = new();
    private int _pending;
    private int _closing;
    private volatile bool _abandoned;

    public bool IsOpen => channel.IsOpen;

    /// <summary>Where to publish an envelope; null: not known, or not to be done here.</summary>
    public DirectRoute? Find(Envelope envelope) => _routes.GetValueOrDefault(Key(envelope));

    public bool MayLearn(Envelope envelope) => _routes.Count < MaxRoutes && !_routes.ContainsKey(Key(envelope));

    /// <summary>Notes where an envelope's like go; null: never through here.</summary>
    public void Learn(Envelope envelope, DirectRoute? route) => _routes.TryAdd(Key(envelope), route);

    /// <summary>Publishes and waits for the confirm.</summary>
    public async Task PublishAsync(DirectRoute route, DirectMessage message, byte[] body, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _pending);
        try
        {
            await channel.BasicPublishAsync(route.Exchange, message.RoutingKey, message.Mandatory, message.Properties, body, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            if (Interlocked.Decrement(ref _pending) == 0 && _abandoned)
                Close();
        }
    }

    /// <summary>Nothing more is published; closed when the last confirm is in or given up, so that no message is in doubt for another's sake.</summary>
    public void Abandon()
    {
        _abandoned = true;
        if (Volatile.Read(ref _pending) == 0)
            Close();
    }

    private static string Key(Envelope envelope) => envelope.Destination ?? envelope.MessageType;

    private void Close()
    {
        if (Interlocked.Exchange(ref _closing, 1) == 0)
            _ = CloseAsync();
    }

    private async Task CloseAsync()
    {
        try
        {
            await channel.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception)
        {
            // Nobody waits for it, and the connection's end is the end of its channels.
        }
    }
}

/// <summary>The exchange of a message type or a destination.</summary>
internal sealed class DirectRoute(string exchange)
{
    public CachedString Exchange { get; } = new(exchange);

    /// <summary>What MassTransit calls a send to it.</summary>
    public string SpanName { get; } = $"{exchange} send";
}
