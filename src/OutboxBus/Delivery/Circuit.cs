namespace OutboxBus.Delivery;

/// <summary>
/// Whether the broker is believed to be up. A transport failure opens the circuit; while it is open one message at a
/// time probes, with growing pauses; a confirmed message closes it. Pure bookkeeping: no waiting, no I/O.
/// </summary>
internal sealed class Circuit(DeliveryOptions options, TimeProvider time, Random random)
{
    private readonly Lock _lock = new();
    private TimeSpan _pause;
    private long _probeAt;
    private long _lastConfirmedStart = long.MinValue;

    public bool IsOpen { get; private set; }

    /// <summary>How many messages were confirmed so far; tells whether others succeeded between two failures of one message.</summary>
    public long Confirmations { get; private set; }

    /// <summary>Whether the pause is over and one message may be sent to see if the broker is back.</summary>
    public bool MayProbe => IsOpen && time.GetTimestamp() >= _probeAt;

    public TimeSpan UntilProbe => MayProbe ? TimeSpan.Zero : time.GetElapsedTime(time.GetTimestamp(), _probeAt);

    /// <summary>Notes a confirmed send; true when that closed the circuit.</summary>
    public bool Confirmed(long sendStarted)
    {
        lock (_lock)
        {
            Confirmations++;
            _lastConfirmedStart = Math.Max(_lastConfirmedStart, sendStarted);
            if (!IsOpen)
                return false;
            IsOpen = false;
            _pause = TimeSpan.Zero;
            return true;
        }
    }

    /// <summary>Notes a transport failure; true when that opened the circuit.</summary>
    public bool TransportFailed(long sendStarted)
    {
        lock (_lock)
        {
            // A send that started later was confirmed: the transport works, and this message is the suspect.
            if (_lastConfirmedStart > sendStarted)
                return false;

            // Stragglers of the outage already noted tell nothing new; only a probe's failure lengthens the pause.
            if (IsOpen && time.GetTimestamp() < _probeAt)
                return false;

            var opened = !IsOpen;
            IsOpen = true;
            _pause = opened ? options.MinOutagePause : Min(_pause * 2, options.MaxOutagePause);
            _probeAt = time.GetTimestamp() + (long)(Jitter.Apply(_pause, random).TotalSeconds * time.TimestampFrequency);
            return opened;
        }
    }

    private static TimeSpan Min(TimeSpan left, TimeSpan right) => left < right ? left : right;
}
