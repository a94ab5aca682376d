using Microsoft.Extensions.Logging;
using OutboxBus.Delivery;
using OutboxBus.Diagnostics;

namespace OutboxBus.Storage;

/// <summary>
/// Whether one database is believed to be away, shared by all that ask it: one line when it goes, one when it is back,
/// and pauses that grow with the length of the outage. Pure bookkeeping: no waiting, no I/O.
/// </summary>
internal sealed class DatabaseOutage(string database, TimeProvider time, ILogger<DatabaseOutage> logger, Random? random = null)
{
    private static readonly TimeSpan MinPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan MaxPause = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly Random _random = random ?? Random.Shared;
    private long? _since;

    /// <summary>Raised when an outage has ended, whoever noticed it: what waits for the next try need not wait any longer.</summary>
    public event Action? Ended;

    public bool IsOn
    {
        get
        {
            lock (_lock)
                return _since is not null;
        }
    }

    /// <summary>The database could not be asked; returns how long to leave it alone.</summary>
    public TimeSpan Failed(Exception exception)
    {
        TimeSpan lasted;
        bool begins;
        lock (_lock)
        {
            begins = _since is null;
            _since ??= time.GetTimestamp();
            lasted = time.GetElapsedTime(_since.Value);
        }

        if (begins)
            logger.DatabaseIsAway(database, exception);
        // Waiting as long as it has lasted doubles the pauses, however many ask.
        return Jitter.Apply(TimeSpan.FromTicks(Math.Clamp(lasted.Ticks, MinPause.Ticks, MaxPause.Ticks)), _random);
    }

    /// <summary>The database has answered.</summary>
    public void Answered()
    {
        TimeSpan lasted;
        lock (_lock)
        {
            if (_since is not { } since)
                return;
            lasted = time.GetElapsedTime(since);
            _since = null;
        }

        logger.DatabaseIsBack(database, lasted);
        Ended?.Invoke();
    }
}
