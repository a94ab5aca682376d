namespace OutboxBus.Delivery;

/// <summary>
/// Whether the broker is believed to be up. A transport failure opens the circuit; while it is open one message at a
/// time probes, with growing pauses; an answer of the broker closes it. Pure bookkeeping: no waiting, no I/O.
/// </summary>
internal sealed class Circuit(DeliveryOptions options, TimeProvider time, Random random)
{
    private readonly Lock _lock = new();
    private bool _open;
    private bool _probing;
    private TimeSpan _pause;
    private long _probeAt;
    private long _lastAnsweredStart = long.MinValue;
    private long _answers;

    public bool IsOpen
    {
        get
        {
            lock (_lock)
                return _open;
        }
    }

    /// <summary>How often the broker has answered; tells whether others got through between two failures of one message.</summary>
    public long Answers
    {
        get
        {
            lock (_lock)
                return _answers;
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

    /// <summary>How long until the next probe may start; a probe under way ends within the send timeout.</summary>
    public TimeSpan UntilProbe
    {
        get
        {
            lock (_lock)
            {
                if (_probing)
                    return options.SendTimeout;
                var left = time.GetElapsedTime(time.GetTimestamp(), _probeAt);
                return left > TimeSpan.Zero ? left : TimeSpan.Zero;
            }
        }
    }

    /// <summary>Whether a message may be sent now; with the circuit open only one that begins a probe.</summary>
    public bool TryBeginSend()
    {
        lock (_lock)
        {
            if (!_open)
                return true;
            if (_probing || time.GetTimestamp() < _probeAt)
                return false;
            return _probing = true;
        }
    }

    /// <summary>The broker has answered, with a confirm or a refusal; true when that closed the circuit.</summary>
    public bool Answered(long sendStarted)
    {
        lock (_lock)
        {
            _answers++;
            _lastAnsweredStart = Math.Max(_lastAnsweredStart, sendStarted);
            _probing = false;
            if (!_open)
                return false;
            _open = false;
            return true;
        }
    }

    /// <summary>The broker was not asked after all: the message itself could not be sent.</summary>
    public void NotAsked()
    {
        lock (_lock)
            _probing = false;
    }

    /// <summary>The transport has failed; true when that opened the circuit.</summary>
    public bool TransportFailed(long sendStarted)
    {
        lock (_lock)
        {
            if (!_open)
            {
                // A send that started later was answered: the transport works, and this message is the suspect.
                if (_lastAnsweredStart > sendStarted)
                    return false;
                _open = true;
                Pause(options.MinOutagePause);
                return true;
            }

            // Sends begun before the circuit opened tell nothing new; only the probe's failure lengthens the pause.
            if (_probing)
            {
                _probing = false;
                Pause(_pause * 2 < options.MaxOutagePause ? _pause * 2 : options.MaxOutagePause);
            }

            return false;
        }
    }

    private void Pause(TimeSpan pause)
    {
        _pause = pause;
        _probeAt = time.GetTimestamp() + (long)(Jitter.Apply(pause, random).TotalSeconds * time.TimestampFrequency);
    }
}
