using RabbitMQ.Client;

namespace OutboxBus.Benchmarks.Contestants;

// RabbitMQ.Client with publisher confirms, a thousand of them awaited at once.
internal sealed class RawChannel(Uri virtualHost, string exchange) : IAsyncDisposable
{
    private const int InFlight = 1000;

    private readonly SemaphoreSlim _window = new(InFlight, InFlight);
    private IConnection? _connection;
    private IChannel? _channel;

    public async Task OpenAsync()
    {
        _connection = await new ConnectionFactory { Uri = virtualHost }.CreateConnectionAsync();
        _channel = await _connection.CreateChannelAsync(new CreateChannelOptions(
            publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true, outstandingPublisherConfirmationsRateLimiter: null));
        await _channel.ExchangeDeclareAsync(exchange, ExchangeType.Fanout, durable: true);
    }

    // Waits while too many are unconfirmed, not for the confirm.
    public async ValueTask SendAsync(Envelope envelope, Action<long> confirmed)
    {
        await _window.WaitAsync();
        _ = PublishAsync(envelope, confirmed);
    }

    // When all are confirmed.
    public async Task DrainAsync()
    {
        for (var permit = 0; permit < InFlight; permit++)
            await _window.WaitAsync();
        _window.Release(InFlight);
    }

    public async ValueTask DisposeAsync()
    {
        if (_channel is not null)
            await _channel.DisposeAsync();
        if (_connection is not null)
            await _connection.DisposeAsync();
        _window.Dispose();
    }

    private async Task PublishAsync(Envelope envelope, Action<long> confirmed)
    {
        try
        {
            var properties = new BasicProperties
            {
                Persistent = true,
                MessageId = envelope.MessageId.ToString(),
                ContentType = envelope.ContentType,
                Type = envelope.MessageType,
            };
            await _channel!.BasicPublishAsync(exchange, "", mandatory: false, properties, envelope.Body);
            confirmed(envelope.Id);
        }
        finally
        {
            _window.Release();
        }
    }
}
