namespace OutboxBus.TestServers;

internal static class FreshName
{
    // Safe unquoted in SQL and in a URI, and within PostgreSQL's 63 bytes.
    public static string From(string prefix)
    {
        var safe = new string([.. prefix.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '_').Take(40)]);
        return $"ob_{safe}_{Guid.NewGuid().ToString("N")[..12]}";
    }
}
