using System.Globalization;
using System.Text.Json;

namespace OutboxBus.MassTransit.Storage;

/// <summary>
/// Header and property values as JSON that gives back the same .NET types: a broker's client encodes an int and a long
/// differently. Strings, booleans and ints are plain JSON; other types are an object of tag and text. The tags are a
/// closed list: a stored name never chooses a type.
/// </summary>
internal static class StoredValues
{
    private const string TagName = "type";
    private const string TextName = "value";

    public static void Write(Utf8JsonWriter writer, IEnumerable<KeyValuePair<string, object>> values)
    {
        writer.WriteStartObject();
        foreach (var (name, value) in values)
        {
            switch (value)
            {
                case null:
                    break;
                case string text:
                    writer.WriteString(name, text);
                    break;
                case bool flag:
                    writer.WriteBoolean(name, flag);
                    break;
                case int number:
                    writer.WriteNumber(name, number);
                    break;
                default:
                    var (tag, encoded) = Encode(value);
                    writer.WriteStartObject(name);
                    writer.WriteString(TagName, tag);
                    writer.WriteString(TextName, encoded);
                    writer.WriteEndObject();
                    break;
            }
        }

        writer.WriteEndObject();
    }

    /// <exception cref="FormatException">A value is not of the closed list.</exception>
    public static Dictionary<string, object> Read(JsonElement json)
    {
        var values = new Dictionary<string, object>();
        foreach (var property in json.EnumerateObject())
        {
            values[property.Name] = property.Value.ValueKind switch
            {
                JsonValueKind.String => property.Value.GetString()!,
                JsonValueKind.True => true,
                JsonValueKind.False => false,
                JsonValueKind.Number => property.Value.GetInt32(),
                JsonValueKind.Object => Decode(property),
                _ => throw new FormatException($"The stored value \"{property.Name}\" has the JSON kind {property.Value.ValueKind}."),
            };
        }

        return values;
    }

    private static (string Tag, string Text) Encode(object value) => value switch
    {
        byte or sbyte or short or ushort or uint or long or ulong => (TypeTag(value), Convert.ToString(value, CultureInfo.InvariantCulture)!),
        float number => ("float", number.ToString("R", CultureInfo.InvariantCulture)),
        double number => ("double", number.ToString("R", CultureInfo.InvariantCulture)),
        decimal number => ("decimal", number.ToString(CultureInfo.InvariantCulture)),
        Guid id => ("guid", id.ToString("D")),
        DateTime time => ("datetime", time.ToString("O", CultureInfo.InvariantCulture)),
        DateTimeOffset time => ("datetimeoffset", time.ToString("O", CultureInfo.InvariantCulture)),
        TimeSpan time => ("timespan", time.ToString("c", CultureInfo.InvariantCulture)),
        Uri address => ("uri", address.ToString()),
        byte[] bytes => ("bytes", Convert.ToBase64String(bytes)),
        // RabbitMQ's CC and BCC: copies of the message go where they say.
        IEnumerable<string> texts => ("strings", JsonSerializer.Serialize(texts)),
        JsonElement json => ("json", json.GetRawText()),
        // Brokers carry no objects in headers; the body, written already, has them in full.
        _ => ("json", JsonSerializer.Serialize(value, value.GetType())),
    };

    private static string TypeTag(object integer) => integer switch
    {
        byte => "byte",
        sbyte => "sbyte",
        short => "short",
        ushort => "ushort",
        uint => "uint",
        long => "long",
        _ => "ulong",
    };

    private static object Decode(JsonProperty property)
    {
        var tag = property.Value.GetProperty(TagName).GetString();
        try
        {
            return Decode(tag, property.Value.GetProperty(TextName).GetString()!);
        }
        catch (Exception exception) when (exception is FormatException or OverflowException or JsonException or ArgumentException)
        {
            // Not as the inner exception either: the parsers repeat the value, which may be a secret, and this is logged.
            throw new FormatException($"The stored value \"{property.Name}\" cannot be read as \"{tag}\".");
        }
    }

    private static object Decode(string? tag, string text) => tag switch
    {
        "byte" => byte.Parse(text, CultureInfo.InvariantCulture),
        "sbyte" => sbyte.Parse(text, CultureInfo.InvariantCulture),
        "short" => short.Parse(text, CultureInfo.InvariantCulture),
        "ushort" => ushort.Parse(text, CultureInfo.InvariantCulture),
        "uint" => uint.Parse(text, CultureInfo.InvariantCulture),
        "long" => long.Parse(text, CultureInfo.InvariantCulture),
        "ulong" => ulong.Parse(text, CultureInfo.InvariantCulture),
        "float" => float.Parse(text, CultureInfo.InvariantCulture),
        "double" => double.Parse(text, CultureInfo.InvariantCulture),
        "decimal" => decimal.Parse(text, CultureInfo.InvariantCulture),
        "guid" => Guid.ParseExact(text, "D"),
        "datetime" => DateTime.ParseExact(text, "O", CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind),
        "datetimeoffset" => DateTimeOffset.ParseExact(text, "O", CultureInfo.InvariantCulture),
        "timespan" => TimeSpan.ParseExact(text, "c", CultureInfo.InvariantCulture),
        "uri" => new Uri(text, UriKind.RelativeOrAbsolute),
        "bytes" => Convert.FromBase64String(text),
        "strings" => JsonSerializer.Deserialize<string[]>(text)!,
        "json" => JsonDocument.Parse(text).RootElement,
        _ => throw new FormatException("The type is not of the closed list."),
    };
}
