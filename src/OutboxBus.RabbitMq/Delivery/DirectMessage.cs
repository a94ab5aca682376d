using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Mime;
using System.Text.Json;
using MassTransit.RabbitMqTransport;
using OutboxBus.MassTransit.Delivery;
using OutboxBus.MassTransit.Storage;
using RabbitMQ.Client;

namespace OutboxBus.RabbitMq.Delivery;

/// <summary>
/// An envelope as MassTransit 8.5 would hand it to RabbitMQ's client. Every rule here repeats one of its send context and
/// send transport; a message that needs a rule that is not here is none of ours.
/// </summary>
internal sealed class DirectMessage
{
    // What a broker with default settings takes; a larger one would close the channel with all that is on it.
    private const int MaxBody = 16 * 1024 * 1024;
    private const int MaxContentTypes = 100;

    private static readonly ConcurrentDictionary<string, string> ContentTypes = new();

    private DirectMessage(IReadOnlyDictionary<string, object> storedHeaders) => StoredHeaders = storedHeaders;

    public IReadOnlyDictionary<string, object> StoredHeaders { get; }

    public CachedString RoutingKey { get; private set; } = CachedString.Empty;

    public bool Mandatory { get; private set; }

    public BasicProperties Properties { get; } = new() { Persistent = true };

    /// <summary>The message; null: MassTransit must send this one, or say what is wrong with it.</summary>
    public static DirectMessage? From(Envelope envelope, TimeProvider time)
    {
        if (envelope.Body.Length > MaxBody)
            return null;
        try
        {
            var message = new DirectMessage(OutboxBus.MassTransit.Storage.StoredHeaders.Parse(envelope.Headers));
            var properties = StoredProperties.Parse(envelope.Properties);
            return message.SetEnvelope(envelope, properties, time) && message.SetTransport(properties.Transport) && message.SetHeaders() ? message : null;
        }
        catch (Exception exception) when (exception is JsonException or FormatException or ArgumentException or OverflowException or KeyNotFoundException or InvalidOperationException)
        {
            return null;
        }
    }

    private bool SetEnvelope(Envelope envelope, StoredProperties stored, TimeProvider time)
    {
        // Answers to RabbitMQ's reply-to come over the channel that has sent the request, which would be the wrong one.
        if (stored.ResponseAddress is { } responses && (!responses.IsAbsoluteUri || responses.AbsolutePath.EndsWith(RabbitMqExchangeNames.ReplyTo, StringComparison.Ordinal)))
            return false;
        Properties.MessageId = envelope.MessageId.ToString();
        Properties.CorrelationId = stored.CorrelationId?.ToString();
        Properties.ContentType = ContentType(envelope.ContentType);
        if (BusEnvelopeSender.TimeToLive(envelope, time) is not { } timeToLive)
            return true;
        Properties.Expiration = timeToLive.TotalMilliseconds.ToString("F0", CultureInfo.InvariantCulture);
        // The broker closes the channel of one who asks for longer.
        return timeToLive.TotalMilliseconds < uint.MaxValue;
    }

    private bool SetTransport(IReadOnlyDictionary<string, object> transport)
    {
        if (transport.Count == 0)
            return true;
        // MassTransit restores it with any of the others, and it is 0 then.
        Properties.Priority = 0;
        foreach (var (name, value) in transport)
        {
            switch (name, value)
            {
                case ("Durable", bool durable):
                    Properties.Persistent = durable;
                    break;
                case ("Mandatory", bool mandatory):
                    Mandatory = mandatory;
                    break;
                case ("RMQ-RoutingKey", string key):
                    RoutingKey = new CachedString(key);
                    break;
                case ("RMQ-Priority", byte priority):
                    Properties.Priority = priority;
                    break;
                case ("RMQ-AppId", string id):
                    Properties.AppId = id;
                    break;
                case ("RMQ-ReplyTo", string address):
                    Properties.ReplyTo = address;
                    break;
                case ("RMQ-Type", string type):
                    Properties.Type = type;
                    break;
                // Another exchange than the address says, a user that the broker checks and closes the channel over, or
                // something not known here.
                default:
                    return false;
            }
        }

        return true;
    }

    private bool SetHeaders()
    {
        var headers = new Dictionary<string, object?>(StoredHeaders.Count + 1);
        Properties.Headers = headers;
        foreach (var (name, value) in StoredHeaders)
        {
            switch (value)
            {
                case var _ when name is RabbitMqHeaders.Exchange or RabbitMqHeaders.RoutingKey or RabbitMqHeaders.DeliveryTag or RabbitMqHeaders.ConsumerTag:
                // Values that RabbitMQ's headers cannot carry, so that MassTransit leaves them out.
                case false or byte[] or JsonElement:
                case string[] when name is not ("CC" or "BCC"):
                    break;
                case string text when name is "CC" or "BCC":
                    headers[name] = new[] { text };
                    break;
                case string or string[]:
                case byte or sbyte or short or ushort or int or uint or long or float or double:
                    headers[name] = value;
                    break;
                case true:
                    headers[name] = bool.TrueString;
                    break;
                case Guid id:
                    headers[name] = id.ToString();
                    break;
                case Uri address:
                    headers[name] = address.ToString();
                    break;
                case DateTime moment:
                    headers.SetAmqpTimestamp(name, moment.Kind == DateTimeKind.Local ? moment.ToUniversalTime() : moment);
                    break;
                case DateTimeOffset moment:
                    headers.SetAmqpTimestamp(name, moment.UtcDateTime);
                    break;
                // The client takes only some of the decimals, and no ulong or TimeSpan.
                default:
                    return false;
            }
        }

        return true;
    }

    private static string ContentType(string stored)
    {
        if (ContentTypes.TryGetValue(stored, out var parsed))
            return parsed;
        parsed = new ContentType(stored).ToString();
        if (ContentTypes.Count < MaxContentTypes)
            ContentTypes.TryAdd(stored, parsed);
        return parsed;
    }
}
