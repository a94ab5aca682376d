namespace OutboxBus.Publishing;

/// <summary>Envelopes appended to a unit of work and not yet written; safe for parallel publishes.</summary>
internal sealed class PendingEnvelopes
{
    private readonly Lock _lock = new();
    private List<Envelope> _envelopes = [];
    private int _nextSeq;
    private bool _sealed;

    public bool Any
    {
        get
        {
            lock (_lock)
                return _envelopes.Count > 0;
        }
    }

    public List<Envelope> Snapshot()
    {
        lock (_lock)
            return [.. _envelopes];
    }

    public void Add(Envelope envelope)
    {
        lock (_lock)
        {
            CheckOpen($"A message of type {envelope.MessageType} was published", "Publish before the handler returns, and await every publish; filters outside the inbox publish before the handler runs, not after.");
            envelope.Seq = _nextSeq++;
            _envelopes.Add(envelope);
        }
    }

    /// <summary>Forgets the envelopes that were scheduled with a token.</summary>
    public void RemoveScheduled(Guid token)
    {
        lock (_lock)
        {
            CheckOpen("A scheduled message was cancelled", "Cancel before the handler returns, and await it.");
            _envelopes.RemoveAll(envelope => envelope.ScheduleToken == token);
        }
    }

    /// <summary>Takes what is there; what is appended later is for the next flush.</summary>
    public List<Envelope> Take()
    {
        lock (_lock)
        {
            var taken = _envelopes;
            _envelopes = [];
            return taken;
        }
    }

    /// <summary>Puts back what was taken and not written.</summary>
    public void PutBack(IReadOnlyCollection<Envelope> envelopes)
    {
        lock (_lock)
            _envelopes.InsertRange(0, envelopes);
    }

    /// <summary>If nothing is pending, from now on an append is an error: the last flush is done.</summary>
    public bool TrySeal()
    {
        lock (_lock)
            return _sealed = _envelopes.Count == 0;
    }

    /// <summary>Starts over with the envelopes given; appends are welcome again.</summary>
    public void Restart(IEnumerable<Envelope> envelopes)
    {
        lock (_lock)
        {
            _envelopes = [.. envelopes];
            _nextSeq = _envelopes.Count;
            _sealed = false;
        }
    }

    private void CheckOpen(string what, string remedy)
    {
        if (_sealed)
            throw new OutboxBusException($"{what} after its unit of work had been sealed, and would be lost. {remedy}");
    }
}
