using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using OutboxBus.Diagnostics;

namespace OutboxBus.Delivery;

/// <summary>
/// Just-committed envelopes on their way to delivery, in memory and bounded by count and bytes. Of what does not fit only
/// the keys are kept, so that delivery gives the rows back when it has time for them. Beyond that they are left to their
/// leases: nothing is lost, they are claimed later.
/// </summary>
internal sealed class HandOff(DeliveryOptions options, TimeProvider time, WakeUp wakeUp, OutboxMetrics metrics)
{
    // Past these delivery finds them by its poll.
    private const int MaxDelays = 1000;

    // Keys take about a tenth of what a message takes.
    private const int KeysPerMessage = 10;
    private static readonly TimeSpan LongestDelay = TimeSpan.FromDays(1);

    private readonly ConcurrentQueue<HandedOff> _queue = new();
    private readonly ConcurrentQueue<long> _delays = new();
    private readonly ConcurrentQueue<Envelope> _overflow = new();
    private int _messages;
    private long _bytes;
    private volatile bool _closed;

    public bool IsEmpty => _queue.IsEmpty;

    public bool IsClosed => _closed;

    /// <summary>How many messages wait; may exceed the bound for a moment while an offer is refused.</summary>
    public int Count => Volatile.Read(ref _messages);

    /// <summary>Offers envelopes whose rows were inserted after <paramref name="savedFrom"/>, a timestamp of the process's clock.</summary>
    public void Offer(IReadOnlyList<Envelope> envelopes, CommitCertainty certainty, long savedFrom)
    {
        if (_closed || envelopes.Count == 0)
            return;

        var committed = time.GetTimestamp();
        var ready = new List<LeasedEnvelope>(envelopes.Count);
        var bytes = 0L;
        foreach (var envelope in envelopes)
        {
            // A delayed row is not leased to this process: it is claimed when due.
            if (envelope.DueAt is not null)
                OfferDelay(envelope.VisibleAt - envelope.CreatedAt);
            if (envelope.DueAt is not null || envelope.VisibleAt <= envelope.CreatedAt)
                continue;
            bytes += envelope.Body.Length;
            ready.Add(new LeasedEnvelope(envelope, Add(savedFrom, envelope.VisibleAt - envelope.CreatedAt), committed));
        }

        if (ready.Count == 0)
            return;
        var messagesNow = Interlocked.Add(ref _messages, ready.Count);
        var bytesNow = Interlocked.Add(ref _bytes, bytes);
        if (messagesNow > options.HandOffMessages || bytesNow > options.HandOffBytes)
        {
            Release(ready.Count, bytes);
            metrics.HandOffOverflowed(ready.Count);
            KeepKeys(ready);
            return;
        }

        _queue.Enqueue(new HandedOff(ready, certainty, bytes));
        wakeUp.Set();
    }

    public bool TryTake(out HandedOff handedOff)
    {
        if (!_queue.TryDequeue(out handedOff!))
            return false;
        Release(handedOff.Envelopes.Count, handedOff.Bytes);
        return true;
    }

    /// <summary>An envelope that did not fit: its keys and the end of its lease, and nothing else.</summary>
    public bool TryTakeOverflow([MaybeNullWhen(false)] out Envelope keys) => _overflow.TryDequeue(out keys);

    /// <summary>When a delayed row becomes due, as a timestamp of the process's clock: a hint.</summary>
    public bool TryTakeDelay(out long dueAt) => _delays.TryDequeue(out dueAt);

    /// <summary>Refuses further offers; what is queued can still be taken.</summary>
    public void Close()
    {
        _closed = true;
        wakeUp.Set();
    }

    private void OfferDelay(TimeSpan delay)
    {
        if (delay > LongestDelay || _delays.Count >= MaxDelays)
            return;
        // From now on, although the row is older than that: a claim that comes too early finds nothing.
        _delays.Enqueue(Add(time.GetTimestamp(), delay));
        wakeUp.Set();
    }

    private void KeepKeys(List<LeasedEnvelope> envelopes)
    {
        if (_overflow.Count + envelopes.Count > (long)options.HandOffMessages * KeysPerMessage)
            return;
        foreach (var (envelope, _, _) in envelopes)
            _overflow.Enqueue(new Envelope { Id = envelope.Id, MessageId = envelope.MessageId, VisibleAt = envelope.VisibleAt });
        wakeUp.Set();
    }

    private void Release(int messages, long bytes)
    {
        Interlocked.Add(ref _messages, -messages);
        Interlocked.Add(ref _bytes, -bytes);
    }

    private long Add(long timestamp, TimeSpan span) => timestamp + (long)(span.TotalSeconds * time.TimestampFrequency);
}

/// <summary>How certain it is that envelopes handed off are committed.</summary>
internal enum CommitCertainty
{
    /// <summary>The commit was seen to succeed.</summary>
    Proven,

    /// <summary>A commit was seen, but the rows may have been rolled back to a savepoint, or belong to a transaction still open: read before sending.</summary>
    Unverified,
}

/// <summary>Envelopes of one commit.</summary>
internal sealed record HandedOff(IReadOnlyList<LeasedEnvelope> Envelopes, CommitCertainty Certainty, long Bytes);

/// <summary>An envelope this process may send until its lease ends.</summary>
/// <param name="Envelope">The envelope.</param>
/// <param name="LeaseEnds">A timestamp of the process's monotonic clock, never later than the lease in the row.</param>
/// <param name="Committed">A timestamp of the same clock, right after this process committed the envelope; null: it was claimed.</param>
internal sealed record LeasedEnvelope(Envelope Envelope, long LeaseEnds, long? Committed = null);
