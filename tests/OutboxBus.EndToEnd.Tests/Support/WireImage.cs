using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using RabbitMQ.Client;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>Everything that a broker passes on of a message, as lines that can be compared, but for what differs from send to send whoever sends.</summary>
internal static class WireImage
{
    private const string Activity = "MT-Activity-Id";

    // RabbitMQ.Client's own count of publishes on a channel.
    private const string Sequence = "x-dotnet-pub-seq-no";

    /// <summary>All lines, the body in its exact bytes.</summary>
    public static IReadOnlyList<string> Of(BasicGetResult message)
        => [.. Envelope(message), $"expiration: {message.BasicProperties.Expiration}", $"body: {Digest(message)}"];

    /// <summary>All lines, but of the times only whether there are any: two messages are not sent at the same time.</summary>
    public static IReadOnlyList<string> Timeless(BasicGetResult message)
        => [.. Envelope(message), $"expires: {message.BasicProperties.IsExpirationPresent()}", $"body: {TimelessBody(message)}"];

    private static IEnumerable<string> Envelope(BasicGetResult message)
    {
        var properties = message.BasicProperties;
        yield return $"exchange: {message.Exchange}";
        yield return $"routing key: {message.RoutingKey}";
        yield return $"content type: {properties.ContentType}";
        yield return $"content encoding: {properties.ContentEncoding}";
        yield return $"delivery mode: {(properties.IsDeliveryModePresent() ? properties.DeliveryMode : null)}";
        yield return $"priority: {(properties.IsPriorityPresent() ? properties.Priority : null)}";
        yield return $"message id: {properties.MessageId}";
        yield return $"correlation id: {properties.CorrelationId}";
        yield return $"reply to: {properties.ReplyTo}";
        yield return $"timestamp: {properties.IsTimestampPresent()}";
        yield return $"type: {properties.Type}";
        yield return $"user: {properties.UserId}";
        yield return $"application: {properties.AppId}";
        foreach (var (name, value) in (properties.Headers ?? new Dictionary<string, object?>()).OrderBy(header => header.Key, StringComparer.Ordinal))
        {
            if (name is not (Activity or Sequence))
                yield return $"header {name}: {Text(value)}";
        }
    }

    private static string Digest(BasicGetResult message) => $"{message.Body.Length} bytes, {Convert.ToHexString(SHA256.HashData(message.Body.Span))}";

    private static string Text(object? value) => value switch
    {
        byte[] bytes => $"{bytes.Length} bytes {Encoding.UTF8.GetString(bytes)}",
        System.Collections.IEnumerable items => $"[{string.Join(", ", items.Cast<object?>().Select(Text))}]",
        _ => $"{value?.GetType().Name} {value}",
    };

    private static string TimelessBody(BasicGetResult message)
    {
        if (message.Body.Span[0] != '{' || JsonNode.Parse(message.Body.Span) is not JsonObject envelope || !envelope.ContainsKey("sentTime"))
            return Digest(message);
        foreach (var time in (string[])["sentTime", "expirationTime"])
        {
            if (envelope.ContainsKey(time))
                envelope[time] = "some";
        }

        (envelope["headers"] as JsonObject)?.Remove(Activity);
        return envelope.ToJsonString();
    }
}
