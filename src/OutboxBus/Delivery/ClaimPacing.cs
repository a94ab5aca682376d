namespace OutboxBus.Delivery;

/// <summary>Decides when to claim next. Pure bookkeeping: no waiting, no I/O.</summary>
internal sealed class ClaimPacing(DeliveryOptions options, TimeProvider time, Random random)
{
    // Past this many the latest are forgotten: the poll finds them.
    private const int MaxExpectations = 1000;

    private readonly Lock _lock = new();

    // When rows that this process has put back become due.
    private readonly SortedSet<long> _expected = [];

    // Due at once: a start may follow a crash, with rows waiting.
    private long _nextClaim = long.MinValue;

    public bool IsDue => UntilDue == TimeSpan.Zero;

    public TimeSpan UntilDue
    {
        get
        {
            lock (_lock)
            {
                var now = time.GetTimestamp();
                var next = _expected.Count > 0 ? Math.Min(_nextClaim, _expected.Min) : _nextClaim;
                return now >= next ? TimeSpan.Zero : time.GetElapsedTime(now, next);
            }
        }
    }

    /// <summary>A claim is about to run: it covers everything due by now.</summary>
    public void Claiming()
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            while (_expected.Count > 0 && _expected.Min <= now)
                _expected.Remove(_expected.Min);
        }
    }

    /// <summary>A full batch means there is more: claim again at once; otherwise after the poll interval.</summary>
    public void Claimed(int count, int limit) => Set(count >= limit ? long.MinValue : After(Jitter.Apply(options.PollInterval, random)));

    /// <summary>The database could not be asked.</summary>
    public void Failed(TimeSpan pause) => Set(After(pause));

    /// <summary>A row becomes due after <paramref name="delay"/>: do not wait longer than that.</summary>
    public void Expect(TimeSpan delay)
    {
        lock (_lock)
        {
            _expected.Add(After(delay));
            if (_expected.Count > MaxExpectations)
                _expected.Remove(_expected.Max);
        }
    }

    private void Set(long nextClaim)
    {
        lock (_lock)
            _nextClaim = nextClaim;
    }

    private long After(TimeSpan delay) => time.GetTimestamp() + (long)(delay.TotalSeconds * time.TimestampFrequency);
}

/// <summary>Random variation that keeps instances from acting in step.</summary>
internal static class Jitter
{
    private const double Share = 0.2;

    /// <summary>The time, 20 % shorter to 20 % longer.</summary>
    public static TimeSpan Apply(TimeSpan time, Random random) => time * (1 - Share + (2 * Share * random.NextDouble()));
}
