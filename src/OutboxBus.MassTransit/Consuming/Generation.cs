using System.Globalization;
using MassTransit;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>
/// Tells a message that its own consumer has sent back to its queue, on purpose and in its transaction, from a duplicate:
/// a header counts these redeliveries and names the consumer. To another consumer of the queue it is a duplicate.
/// A redelivery after a failure copies the header as it is.
/// </summary>
internal static class Generation
{
    // MassTransit copies a consumed message's headers to what is published meanwhile, except those that begin like this.
    private const string Header = "MT-OutboxBus-Generation";

    /// <summary>The generation of a message as one of its consumers sees it; 0: not redelivered on purpose.</summary>
    public static int Of(Headers headers, string consumer)
    {
        if (!headers.TryGetHeader(Header, out var value) || value is not string text)
            return 0;
        var end = text.IndexOf(' ', StringComparison.Ordinal);
        return end > 0 && text.AsSpan(end + 1).SequenceEqual(consumer) && int.TryParse(text.AsSpan(0, end), NumberStyles.None, CultureInfo.InvariantCulture, out var generation)
            ? generation
            : 0;
    }

    /// <summary>If what is sent is the message consumed, on its way back to the queue it came from, it becomes the next generation.</summary>
    public static void Stamp(SendContext sent, InboxKey consumed, Uri inputAddress)
    {
        if (MessageIdOf(sent) == consumed.MessageId && sent.DestinationAddress is { } destination && IsSameQueue(destination, inputAddress))
            sent.Headers.Set(Header, string.Create(CultureInfo.InvariantCulture, $"{consumed.Generation + 1} {consumed.Consumer}"));
    }

    // As the inbox identifies it: a redelivery may have got an id of its own.
    private static Guid? MessageIdOf(SendContext sent)
        => sent.Headers.TryGetHeader(MessageHeaders.OriginalMessageId, out var value) && Guid.TryParse(value?.ToString(), out var original) ? original : sent.MessageId;

    // The query holds settings of the endpoint.
    private static bool IsSameQueue(Uri left, Uri right)
        => Uri.Compare(left, right, UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.SafeUnescaped, StringComparison.Ordinal) == 0;
}
