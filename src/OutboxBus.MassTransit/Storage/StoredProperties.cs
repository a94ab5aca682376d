using System.Buffers;
using System.Text;
using System.Text.Json;
using MassTransit;
using MassTransit.Context;

namespace OutboxBus.MassTransit.Storage;

/// <summary>What an envelope keeps of a send besides body and headers: ids, addresses, types, the transport's own properties.</summary>
internal sealed record StoredProperties
{
    // MassTransit's own name; written even when it repeats the destination.
    private const string ExchangeProperty = "RMQ-Exchange";

    // Kept in columns: due_at replaces the delay, so that the time is absolute and no broker plugin is needed.
    private const string DelayProperty = "Delay";

    public Guid? ConversationId { get; init; }

    public Guid? CorrelationId { get; init; }

    public Guid? InitiatorId { get; init; }

    public Guid? RequestId { get; init; }

    public Guid? ScheduledMessageId { get; init; }

    public Uri? SourceAddress { get; init; }

    public Uri? ResponseAddress { get; init; }

    public Uri? FaultAddress { get; init; }

    public IReadOnlyList<string> MessageTypes { get; init; } = [];

    public IReadOnlyDictionary<string, object> Transport { get; init; } = new Dictionary<string, object>();

    public static StoredProperties Of(SendContext context) => new()
    {
        ConversationId = context.ConversationId,
        CorrelationId = context.CorrelationId,
        InitiatorId = context.InitiatorId,
        RequestId = context.RequestId,
        ScheduledMessageId = context.ScheduledMessageId,
        SourceAddress = context.SourceAddress,
        ResponseAddress = context.ResponseAddress,
        FaultAddress = context.FaultAddress,
        MessageTypes = context.SupportedMessageTypes ?? [],
        Transport = TransportOf(context),
    };

    public void ApplyTo(SendContext context)
    {
        context.ConversationId = ConversationId;
        context.CorrelationId = CorrelationId;
        context.InitiatorId = InitiatorId;
        context.RequestId = RequestId;
        context.ScheduledMessageId = ScheduledMessageId;
        context.SourceAddress = SourceAddress;
        context.ResponseAddress = ResponseAddress;
        context.FaultAddress = FaultAddress;
        context.SupportedMessageTypes = [.. MessageTypes];
        // Reading nothing back would set properties, such as the priority, that the original did not have.
        if (Transport.Count > 0 && context is TransportSendContext transport)
            transport.ReadPropertiesFrom(Transport);
    }

    public string ToJson()
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            WriteId(writer, "conversationId", ConversationId);
            WriteId(writer, "correlationId", CorrelationId);
            WriteId(writer, "initiatorId", InitiatorId);
            WriteId(writer, "requestId", RequestId);
            WriteId(writer, "scheduledMessageId", ScheduledMessageId);
            WriteAddress(writer, "sourceAddress", SourceAddress);
            WriteAddress(writer, "responseAddress", ResponseAddress);
            WriteAddress(writer, "faultAddress", FaultAddress);
            writer.WriteStartArray("messageTypes");
            foreach (var type in MessageTypes)
                writer.WriteStringValue(type);
            writer.WriteEndArray();
            if (Transport.Count > 0)
            {
                writer.WritePropertyName("transport");
                StoredValues.Write(writer, Transport);
            }

            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    /// <exception cref="JsonException">The text is no JSON.</exception>
    /// <exception cref="FormatException">A value has the wrong form.</exception>
    public static StoredProperties Parse(string? json)
    {
        if (json is null)
            return new StoredProperties();
        using var document = JsonDocument.Parse(json);
        var root = document.RootElement;
        return new StoredProperties
        {
            ConversationId = ReadId(root, "conversationId"),
            CorrelationId = ReadId(root, "correlationId"),
            InitiatorId = ReadId(root, "initiatorId"),
            RequestId = ReadId(root, "requestId"),
            ScheduledMessageId = ReadId(root, "scheduledMessageId"),
            SourceAddress = ReadAddress(root, "sourceAddress"),
            ResponseAddress = ReadAddress(root, "responseAddress"),
            FaultAddress = ReadAddress(root, "faultAddress"),
            MessageTypes = root.TryGetProperty("messageTypes", out var types) ? [.. types.EnumerateArray().Select(type => type.GetString()!)] : [],
            Transport = root.TryGetProperty("transport", out var transport) ? StoredValues.Read(transport) : [],
        };
    }

    private static Dictionary<string, object> TransportOf(SendContext context)
    {
        var properties = new Dictionary<string, object>();
        if (context is not TransportSendContext transport)
            return properties;
        transport.WritePropertiesTo(properties);
        properties.Remove(DelayProperty);
        // The address says it already, for publishes and for sends; stored again it would only fill the row.
        if (properties.TryGetValue(ExchangeProperty, out var exchange) && exchange is string name
            && context.DestinationAddress is { } destination && destination.AbsolutePath.EndsWith($"/{name}", StringComparison.Ordinal))
        {
            properties.Remove(ExchangeProperty);
        }

        return properties;
    }

    private static void WriteId(Utf8JsonWriter writer, string name, Guid? id)
    {
        if (id is { } value)
            writer.WriteString(name, value);
    }

    private static void WriteAddress(Utf8JsonWriter writer, string name, Uri? address)
    {
        if (address is not null)
            writer.WriteString(name, address.ToString());
    }

    private static Guid? ReadId(JsonElement root, string name) => root.TryGetProperty(name, out var value) ? value.GetGuid() : null;

    private static Uri? ReadAddress(JsonElement root, string name)
        => root.TryGetProperty(name, out var value) ? new Uri(value.GetString()!, UriKind.RelativeOrAbsolute) : null;
}
