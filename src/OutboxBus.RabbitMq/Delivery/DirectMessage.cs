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

    private DirectMessage(IReadOnlyDictionary<string, object> captured) => CapturedHeaders = captured;

    /// <summary>The headers as they were captured; the broker gets them in its own types.</summary>
    public IReadOnlyDictionary<string, object> CapturedHeaders { get; }

    public CachedString RoutingKey { get; private set; } = CachedString.Empty;

    public bool Mandatory { get; private set; }

    public BasicProperties Properties { get; } = new() { Persistent = true };

    /// <summary>The message; null: MassTransit must send this one, or say what is wrong with it.</summary>
    public static DirectMessage? From(Envelope envelope, ContentTypes contentTypes, TimeProvider time)
    {
        if (envelope.Body.Length > MaxBody)
            return null;
        try
        {
            var message = new DirectMessage(StoredHeaders.Parse(envelope.Headers));
            var properties = StoredProperties.Parse(envelope.Properties);
            return message.SetEnvelope(envelope, properties, contentTypes, time) && message.SetTransport(properties.Transport) && message.SetHeaders() ? message : null;
        }
        catch (Exception exception) when (UnreadableRows.Causes(exception))
        {
            return null;
        }
    }

    private bool SetEnvelope(Envelope envelope, StoredProperties stored, ContentTypes contentTypes, TimeProvider time)
    {
        // Answers to RabbitMQ's reply-to come over the channel that has sent the request, which would be the wrong one.
        if (stored.ResponseAddress is { } responses && (!responses.IsAbsoluteUri || responses.AbsolutePath.EndsWith(RabbitMqExchangeNames.ReplyTo, StringComparison.Ordinal)))
            return false;
        Properties.MessageId = envelope.MessageId.ToString();
        Properties.CorrelationId = stored.CorrelationId?.ToString();
        Properties.ContentType = contentTypes.Normalize(envelope.ContentType);
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
        var headers = new Dictionary<string, object?>(CapturedHeaders.Count + 1);
        Properties.Headers = headers;
        foreach (var (name, value) in CapturedHeaders)
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
}

/// <summary>Content types in the spelling that MassTransit gives them; there are few, and parsing one takes as long as the rest of a message.</summary>
internal sealed class ContentTypes
{
    private const int MaxCount = 100;

    private readonly ConcurrentDictionary<string, string> _spellings = new();

    /// <exception cref="FormatException">The text is no content type.</exception>
    public string Normalize(string stored)
    {
        if (_spellings.TryGetValue(stored, out var spelling))
            return spelling;
        spelling = new ContentType(stored).ToString();
        if (_spellings.Count < MaxCount)
            _spellings.TryAdd(stored, spelling);
        return spelling;
    }
}
