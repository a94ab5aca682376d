using System.Text.Json;

namespace OutboxBus.MassTransit.Storage;

/// <summary>Rows that cannot be turned into a message.</summary>
internal static class UnreadableRows
{
    /// <summary>Whether an error, met while stored columns were read and nothing else was done, says that the row is unreadable: no further attempt would help.</summary>
    public static bool Causes(Exception exception)
        => exception is JsonException or FormatException or ArgumentException or OverflowException or KeyNotFoundException or InvalidOperationException;
}
