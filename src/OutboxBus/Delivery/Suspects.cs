namespace OutboxBus.Delivery;

/// <summary>
/// Messages whose sends ended in transport failures. One failure tells nothing about a message. A message that fails
/// again although others got through in between is suspect: it is sent apart from the rest, and a failure after that
/// costs it an attempt, so that a message that breaks the channel is given up in the end while an outage costs nothing.
/// </summary>
internal sealed class Suspects
{
    // An outage must not fill the memory.
    private const int Capacity = 10_000;
    private const int SuspectLevel = 2;

    private readonly Lock _lock = new();
    private readonly Dictionary<long, (int Level, long ConfirmationsSeen)> _failures = [];

    public bool Contains(Envelope envelope)
    {
        lock (_lock)
            return _failures.TryGetValue(envelope.Id, out var failure) && failure.Level >= SuspectLevel;
    }

    /// <summary>Notes a transport failure; true when it must cost the message an attempt.</summary>
    public bool Failed(Envelope envelope, long confirmations)
    {
        lock (_lock)
        {
            if (!_failures.TryGetValue(envelope.Id, out var failure))
            {
                MakeRoom();
                _failures[envelope.Id] = (1, confirmations);
                return false;
            }

            var othersSucceeded = confirmations > failure.ConfirmationsSeen;
            _failures[envelope.Id] = (othersSucceeded ? failure.Level + 1 : failure.Level, confirmations);
            return othersSucceeded && failure.Level >= SuspectLevel;
        }
    }

    /// <summary>Rows that failed here and were then sent by another instance are never forgotten one by one.</summary>
    private void MakeRoom()
    {
        if (_failures.Count < Capacity)
            return;
        foreach (var (id, failure) in _failures)
        {
            if (failure.Level < SuspectLevel)
                _failures.Remove(id);
        }

        if (_failures.Count >= Capacity)
            _failures.Clear();
    }

    /// <summary>Forgets a message that was confirmed, refused or given up.</summary>
    public void Forget(Envelope envelope)
    {
        lock (_lock)
            _failures.Remove(envelope.Id);
    }
}
