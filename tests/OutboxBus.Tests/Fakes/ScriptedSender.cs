using System.Collections.Concurrent;

namespace OutboxBus.Tests.Fakes;

/// <summary>A broker in memory that does with each envelope what the test says.</summary>
internal sealed class ScriptedSender : IEnvelopeSender
{
    private readonly ConcurrentQueue<(Envelope Envelope, SendOutcomeKind Kind)> _sends = new();
    private int _underWay;
    private int _mostUnderWay;
    private int _started;

    /// <summary>What becomes of a send; may wait, or never return.</summary>
    public Func<Envelope, CancellationToken, Task<SendOutcome>> Script { get; set; } = (_, _) => Task.FromResult(SendOutcome.Confirmed);

    /// <summary>How many sends have begun.</summary>
    public int Started => Volatile.Read(ref _started);

    public int MostUnderWay => Volatile.Read(ref _mostUnderWay);

    /// <summary>The message ids the broker confirmed, in order, repeats included.</summary>
    public IReadOnlyList<Guid> Confirmed => [.. _sends.Where(send => send.Kind == SendOutcomeKind.Confirmed).Select(send => send.Envelope.MessageId)];

    public int SendsOf(Envelope envelope) => _sends.Count(send => send.Envelope.MessageId == envelope.MessageId);

    public async Task<SendOutcome> SendAsync(Envelope envelope, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _started);
        var underWay = Interlocked.Increment(ref _underWay);
        for (var most = MostUnderWay; underWay > most; most = MostUnderWay)
            Interlocked.CompareExchange(ref _mostUnderWay, underWay, most);
        try
        {
            var outcome = await Script(envelope, cancellationToken);
            _sends.Enqueue((envelope, outcome.Kind));
            return outcome;
        }
        finally
        {
            Interlocked.Decrement(ref _underWay);
        }
    }
}
