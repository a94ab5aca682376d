using System.Collections.Concurrent;

namespace OutboxBus.Delivery;

/// <summary>
/// Envelopes in flight or not yet settled. A row whose lease ran out meanwhile may be claimed again by this very process,
/// which must not send it a second time.
/// </summary>
internal sealed class HeldEnvelopes
{
    private readonly ConcurrentDictionary<long, Envelope> _held = new();
    private readonly ConcurrentQueue<Envelope> _completed = new();

    public int Count => _held.Count;

    /// <summary>Holds an envelope; false when this very message is held already, such as a hand-off that waited out its lease and was claimed since.</summary>
    public bool TryAdd(Envelope envelope) => _held.TryAdd(envelope.Id, envelope) || ReferenceEquals(
        _held.AddOrUpdate(envelope.Id, envelope, (_, held) => held.MessageId == envelope.MessageId ? held : envelope),
        envelope);

    /// <summary>Lets an envelope go whose row is left to its lease, or is about to be given back or buried: from then on a claim of it is a new one.</summary>
    public void Remove(Envelope envelope) => _held.TryRemove(KeyValuePair.Create(envelope.Id, envelope));

    /// <summary>The envelope's row is deleted. A claim that began earlier may still return it, so it is kept until <see cref="ForgetCompleted"/>.</summary>
    public void Completed(Envelope envelope) => _completed.Enqueue(envelope);

    /// <summary>Forgets what was completed; only while no claim is under way.</summary>
    public void ForgetCompleted()
    {
        while (_completed.TryDequeue(out var envelope))
            Remove(envelope);
    }

    /// <summary>Whether a row just claimed is held; if so, its settlement goes by the new claim.</summary>
    public bool TakesOver(Envelope claimed)
    {
        if (!_held.TryGetValue(claimed.Id, out var held) || held.MessageId != claimed.MessageId)
            return false;
        held.VisibleAt = claimed.VisibleAt;
        return true;
    }
}
