namespace OutboxBus.Delivery;

/// <summary>
/// Message types that this process does not know and has met: thousands of rows of one type, met again at each of their
/// waits, are worth one line now and then.
/// </summary>
internal sealed class UnknownTypes(TimeProvider time)
{
    private const int Capacity = 1000;
    private static readonly TimeSpan Silence = TimeSpan.FromHours(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<string, long> _reported = [];

    /// <summary>Whether the type has not been reported for an hour; then it counts as reported now.</summary>
    public bool IsWorthALine(string messageType)
    {
        lock (_lock)
        {
            if (_reported.TryGetValue(messageType, out var reported) && time.GetElapsedTime(reported) < Silence)
                return false;
            if (_reported.Count >= Capacity)
                _reported.Clear();
            _reported[messageType] = time.GetTimestamp();
            return true;
        }
    }
}
