namespace OutboxBus.Delivery;

/// <summary>Decides when to claim next. Pure bookkeeping: no waiting, no I/O.</summary>
internal sealed class ClaimPacing(DeliveryOptions options, TimeProvider time, Random random)
{
    // Past this many the latest are forgotten: the poll finds them.
    private const int MaxExpectations = 1000;

    private readonly Lock _lock = new();

    // Rows that become due within this time of each other are claimed together.
    private static readonly TimeSpan Grid = TimeSpan.FromMilliseconds(20);

    // When rows that this process has put back or stored become due.
    private readonly SortedSet<long> _expected = [];

    // Due at once: a start may follow a crash, with rows waiting.
    private long _nextClaim = long.MinValue;

    // While the database is away, no row is worth asking for.
    private long _notBefore = long.MinValue;

    public bool IsDue => UntilDue == TimeSpan.Zero;

    public TimeSpan UntilDue
    {
        get
        {
            lock (_lock)
            {
                var now = time.GetTimestamp();
                var next = Math.Max(_notBefore, _expected.Count > 0 ? Math.Min(_nextClaim, _expected.Min) : _nextClaim);
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
    public void Claimed(int count, int limit) => Set(count >= limit ? long.MinValue : After(Jitter.Apply(options.PollInterval, random)), long.MinValue);

    /// <summary>The database could not be asked: leave it alone for so long, whatever is expected.</summary>
    public void Failed(TimeSpan pause)
    {
        var next = After(pause);
        Set(next, next);
    }

    /// <summary>The database is back, or so it seems: claim at once.</summary>
    public void Resume() => Set(long.MinValue, long.MinValue);

    /// <summary>A row becomes due after <paramref name="delay"/>: do not wait longer than that.</summary>
    public void Expect(TimeSpan delay) => ExpectAt(After(delay));

    /// <summary>A row becomes due at a timestamp of the process's clock: do not wait longer than until then.</summary>
    public void ExpectAt(long due)
    {
        var grid = Ticks(Grid);
        lock (_lock)
        {
            // Rounded up: a claim that comes too early finds nothing.
            _expected.Add(due > time.GetTimestamp() ? (due + grid - 1) / grid * grid : due);
            if (_expected.Count > MaxExpectations)
                _expected.Remove(_expected.Max);
        }
    }

    private void Set(long nextClaim, long notBefore)
    {
        lock (_lock)
            (_nextClaim, _notBefore) = (nextClaim, notBefore);
    }

    private long After(TimeSpan delay) => time.GetTimestamp() + Ticks(delay);

    private long Ticks(TimeSpan span) => (long)(span.TotalSeconds * time.TimestampFrequency);
}

/// <summary>Random variation that keeps instances from acting in step.</summary>
internal static class Jitter
{
    private const double Share = 0.2;

    /// <summary>The time, 20 % shorter to 20 % longer.</summary>
    public static TimeSpan Apply(TimeSpan time, Random random) => time * (1 - Share + (2 * Share * random.NextDouble()));
}
