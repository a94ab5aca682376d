using System.Buffers;
using System.Text;
using System.Text.Json;

namespace OutboxBus.MassTransit.Storage;

/// <summary>An envelope's headers as JSON; none are null.</summary>
internal static class StoredHeaders
{
    public static string? ToJson(IEnumerable<KeyValuePair<string, object>> headers)
    {
        var present = headers.Where(header => header.Value is not null).ToList();
        if (present.Count == 0)
            return null;
        var buffer = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(buffer))
            StoredValues.Write(writer, present);
        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    /// <exception cref="JsonException">The text is no JSON.</exception>
    /// <exception cref="FormatException">A value has the wrong form.</exception>
    public static Dictionary<string, object> Parse(string? json)
    {
        if (json is null)
            return [];
        using var document = JsonDocument.Parse(json);
        return StoredValues.Read(document.RootElement);
    }
}
