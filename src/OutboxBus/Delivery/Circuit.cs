namespace OutboxBus.Delivery;

/// <summary>
/// Whether the broker is believed to be up. A transport failure opens the circuit; while it is open one message at a
/// time probes, with growing pauses; a confirmed message closes it. Pure bookkeeping: no waiting, no I/O.
/// </summary>
internal sealed class Circuit(DeliveryOptions options, TimeProvider time, Random random)
{
    private readonly Lock _lock = new();
    private bool _open;
    private bool _probing;
    private TimeSpan _pause;
    private long _probeAt;
    private long _lastConfirmedStart = long.MinValue;
    private long _confirmations;

    public bool IsOpen
    {
        get
        {
            lock (_lock)
                return _open;
        }
    }

    /// <summary>How many messages were confirmed so far; tells whether others got through between two failures of one message.</summary>
    public long Confirmations
    {
        get
        {
            lock (_lock)
                return _confirmations;
        }
    }

    /// <summary>Whether the pause is over and nothing else is probing.</summary>
    public bool MayProbe
    {
        get
        {
            lock (_lock)
                return _open && !_probing && time.GetTimestamp() >= _probeAt;
        }
    }

    /// <summary>What is left of the pause; zero when there is none.</summary>
    public TimeSpan PauseLeft
    {
        get
        {
            lock (_lock)
            {
                var left = _open ? time.GetElapsedTime(time.GetTimestamp(), _probeAt) : TimeSpan.Zero;
                return left > TimeSpan.Zero ? left : TimeSpan.Zero;
            }
        }
    }

    /// <summary>How long until the next probe may start; a probe under way ends within the send timeout.</summary>
    public TimeSpan UntilProbe
    {
        get
        {
            lock (_lock)
                return _probing ? options.SendTimeout : PauseLeft;
        }
    }

    /// <summary>Whether a message may be sent now, and as what. A probe must be ended with <see cref="ProbeEnded"/>.</summary>
    public SendPermission Ask()
    {
        lock (_lock)
        {
            if (!_open)
                return SendPermission.Send;
            if (_probing || time.GetTimestamp() < _probeAt)
                return SendPermission.None;
            _probing = true;
            return SendPermission.Probe;
        }
    }

    /// <summary>The probe is over, whatever came of it.</summary>
    public void ProbeEnded()
    {
        lock (_lock)
            _probing = false;
    }

    /// <summary>Notes a confirmed send; true when that closed the circuit.</summary>
    public bool Confirmed(long sendStarted)
    {
        lock (_lock)
        {
            _confirmations++;
            _lastConfirmedStart = Math.Max(_lastConfirmedStart, sendStarted);
            var closes = _open;
            _open = false;
            return closes;
        }
    }

    /// <summary>Notes a transport failure; true when that opened the circuit.</summary>
    /// <param name="sendStarted">When the failed send began.</param>
    /// <param name="probe">Whether it was a probe: sends begun before the circuit opened tell nothing new.</param>
    public bool TransportFailed(long sendStarted, bool probe)
    {
        lock (_lock)
        {
            if (_open)
            {
                if (probe)
                    Pause(_pause * 2 < options.MaxOutagePause ? _pause * 2 : options.MaxOutagePause);
                return false;
            }

            // A send that started later was confirmed: the transport works, and this message is the suspect.
            if (_lastConfirmedStart > sendStarted)
                return false;
            _open = true;
            Pause(options.MinOutagePause);
            return true;
        }
    }

    private void Pause(TimeSpan pause)
    {
        _pause = pause;
        _probeAt = time.GetTimestamp() + (long)(Jitter.Apply(pause, random).TotalSeconds * time.TimestampFrequency);
    }
}

/// <summary>What the circuit allows a message.</summary>
internal enum SendPermission
{
    /// <summary>Not to be sent now.</summary>
    None,

    /// <summary>To be sent with the others.</summary>
    Send,

    /// <summary>To be sent alone, to see whether the broker is back.</summary>
    Probe,
}
