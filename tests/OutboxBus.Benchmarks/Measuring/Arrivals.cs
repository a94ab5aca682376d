using System.Collections.Concurrent;
using System.Diagnostics;
using OutboxBus.Benchmarks.Contestants;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;

namespace OutboxBus.Benchmarks.Measuring;

// A durable queue bound to exchanges, and what has come into it.
public sealed class Arrivals : IAsyncDisposable
{
    private const string Queue = "bench-arrivals";
    private static readonly TimeSpan s_between = TimeSpan.FromMilliseconds(5);

    private readonly IConnection _connection;
    private readonly IChannel _channel;
    private readonly ConcurrentDictionary<int, long> _seen = new();
    private int _received;

    private Arrivals(IConnection connection, IChannel channel)
    {
        _connection = connection;
        _channel = channel;
    }

    // When each numbered message came in, as timestamps of Stopwatch; after Listen.
    public IReadOnlyDictionary<int, long> Seen => _seen;

    // How many came in; after Listen.
    public int Received => Volatile.Read(ref _received);

    public static async Task<Arrivals> BindAsync(Uri virtualHost, bool quorum, params string[] exchanges)
    {
        var connection = await new ConnectionFactory { Uri = virtualHost }.CreateConnectionAsync();
        var channel = await connection.CreateChannelAsync();
        await channel.QueueDeclareAsync(Queue, durable: true, exclusive: false, autoDelete: false,
            new Dictionary<string, object?> { ["x-queue-type"] = quorum ? "quorum" : "classic" });
        foreach (var exchange in exchanges)
        {
            await channel.ExchangeDeclareAsync(exchange, ExchangeType.Fanout, durable: true);
            await channel.QueueBindAsync(Queue, exchange, "");
        }

        return new Arrivals(connection, channel);
    }

    // How many lie in the queue.
    public async Task<int> CountAsync() => (int)(await _channel.QueueDeclarePassiveAsync(Queue)).MessageCount;

    // Throws if none came for so long.
    public async Task WaitForAsync(int messages, TimeSpan patience)
    {
        var (last, since) = (-1, Stopwatch.GetTimestamp());
        while (true)
        {
            var count = await CountAsync();
            if (count >= messages)
                return;
            if (count != last)
                (last, since) = (count, Stopwatch.GetTimestamp());
            else if (Stopwatch.GetElapsedTime(since) > patience)
                throw new TimeoutException($"{count} of {messages} messages arrived, and none for {patience.TotalSeconds} s.");
            await Task.Delay(s_between);
        }
    }

    // Nothing lost, nothing doubled.
    public async Task CheckAsync(int messages)
    {
        if (await CountAsync() is var count && count != messages)
            throw new InvalidOperationException($"{count} messages have arrived instead of {messages}.");
    }

    // From now on takes what comes and, unless told to forget, notes when.
    public async Task ListenAsync(bool remembers = true)
    {
        var consumer = new AsyncEventingBasicConsumer(_channel);
        consumer.ReceivedAsync += (_, delivery) =>
        {
            if (remembers)
                _seen.TryAdd(References.NumberIn(delivery.Body.Span), Stopwatch.GetTimestamp());
            Interlocked.Increment(ref _received);
            return Task.CompletedTask;
        };
        await _channel.BasicConsumeAsync(Queue, autoAck: true, consumer);
    }

    public async ValueTask DisposeAsync()
    {
        await _channel.DisposeAsync();
        await _connection.DisposeAsync();
    }
}
