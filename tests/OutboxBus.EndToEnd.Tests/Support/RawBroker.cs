using System.Collections.Concurrent;
using OutboxBus.TestServers;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;
using RabbitMQ.Client.Exceptions;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>The broker without MassTransit: what is really on the wire and in the queues.</summary>
internal sealed class RawBroker : IAsyncDisposable
{
    private readonly IConnection _connection;

    private RawBroker(IConnection connection) => _connection = connection;

    public static async Task<RawBroker> ConnectAsync(Uri uri) => new(await new ConnectionFactory { Uri = uri }.CreateConnectionAsync());

    /// <summary>A durable queue bound to the exchange of a message type, as MassTransit names and declares it.</summary>
    public async Task BindAsync(string queue, Type messageType)
    {
        await using var channel = await _connection.CreateChannelAsync();
        var exchange = ExchangeOf(messageType);
        await channel.ExchangeDeclareAsync(exchange, ExchangeType.Fanout, durable: true);
        await channel.QueueDeclareAsync(queue, durable: true, exclusive: false, autoDelete: false);
        await channel.QueueBindAsync(queue, exchange, "");
    }

    /// <summary>A queue that MassTransit cannot declare as its own.</summary>
    public async Task DeclareWithLimitAsync(string queue)
    {
        await using var channel = await _connection.CreateChannelAsync();
        await channel.QueueDeclareAsync(queue, durable: true, exclusive: false, autoDelete: false, new Dictionary<string, object?> { ["x-max-length"] = 7 });
    }

    /// <summary>An exchange that MassTransit cannot declare as its own.</summary>
    public async Task DeclareDirectAsync(string exchange)
    {
        await using var channel = await _connection.CreateChannelAsync();
        await channel.ExchangeDeclareAsync(exchange, ExchangeType.Direct, durable: true);
    }

    /// <summary>A durable queue bound to a durable exchange of any type, which may exist.</summary>
    public async Task BindAsync(string queue, string exchange, string exchangeType, string routingKey = "", IDictionary<string, object?>? arguments = null)
    {
        await using var channel = await _connection.CreateChannelAsync();
        await channel.ExchangeDeclareAsync(exchange, exchangeType, durable: true);
        await channel.QueueDeclareAsync(queue, durable: true, exclusive: false, autoDelete: false, arguments);
        await channel.QueueBindAsync(queue, exchange, routingKey);
    }

    public async Task PurgeAsync(IEnumerable<string> queues)
    {
        await using var channel = await _connection.CreateChannelAsync();
        foreach (var queue in queues)
            await channel.QueuePurgeAsync(queue);
    }

    public async Task DeleteExchangeAsync(string exchange)
    {
        await using var channel = await _connection.CreateChannelAsync();
        await channel.ExchangeDeleteAsync(exchange);
    }

    public static string ExchangeOf(Type messageType) => $"{messageType.Namespace}:{messageType.Name}";

    /// <summary>How many messages wait in a queue; null: there is no such queue.</summary>
    public async Task<uint?> CountAsync(string queue)
    {
        await using var channel = await _connection.CreateChannelAsync();
        try
        {
            return (await channel.QueueDeclarePassiveAsync(queue)).MessageCount;
        }
        catch (OperationInterruptedException exception) when (exception.ShutdownReason?.ReplyCode == 404)
        {
            return null;
        }
    }

    /// <summary>Waits for the next message of a queue and takes it.</summary>
    public async Task<BasicGetResult> TakeAsync(string queue)
    {
        await using var channel = await _connection.CreateChannelAsync();
        return (await Eventually.BecomesAsync(
            async () => await channel.BasicGetAsync(queue, autoAck: true), message => message is not null, $"a message in {queue}"))!;
    }

    /// <summary>Collects what arrives in a queue, from now on.</summary>
    public async Task<ConcurrentQueue<string>> CollectIdsAsync(string queue)
    {
        var ids = new ConcurrentQueue<string>();
        // Ends with the connection.
        var channel = await _connection.CreateChannelAsync();
        var consumer = new AsyncEventingBasicConsumer(channel);
        consumer.ReceivedAsync += (_, delivery) =>
        {
            ids.Enqueue(delivery.BasicProperties.MessageId ?? "");
            return Task.CompletedTask;
        };
        await channel.BasicConsumeAsync(queue, autoAck: true, consumer);
        return ids;
    }

    public async Task PublishAsync(string exchange, BasicProperties properties, ReadOnlyMemory<byte> body)
    {
        await using var channel = await _connection.CreateChannelAsync(
            new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true));
        await channel.BasicPublishAsync(exchange, "", mandatory: false, properties, body);
    }

    public ValueTask DisposeAsync() => _connection.DisposeAsync();
}
