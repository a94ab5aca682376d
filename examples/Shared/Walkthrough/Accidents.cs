using System.Collections.Concurrent;
using System.Diagnostics;
using MassTransit;
using OutboxBus;
using OutboxBus.Diagnostics;

namespace Examples.Walkthrough;

/// <summary>
/// Makes things go wrong at the named points that OutboxBus offers to tests. With a sabotaged step the accident itself
/// goes wrong, which shows that the step's checks can fail.
/// </summary>
public sealed class Accidents(string? sabotagedStep = null)
{
    private volatile Func<Task<bool>>? _onCommit;
    private volatile bool _brokerIsDown;
    private volatile ConcurrentQueue<Envelope>? _sent;
    private int _refusedSends;

    public FaultPoints FaultPoints => new(ReachedAsync);

    /// <summary>How many sends have failed because the broker was down.</summary>
    public int RefusedSends => Volatile.Read(ref _refusedSends);

    /// <summary>The only step to run, to its failure; null: all of them, to their success.</summary>
    public string? SabotagedStep => sabotagedStep;

    public bool IsSabotaged(string step) => step == sabotagedStep;

    /// <summary>From now on every send fails as if no broker could be reached.</summary>
    public void TakeBrokerDown() => _brokerIsDown = true;

    public void BringBrokerBack() => _brokerIsDown = false;

    /// <summary>From now on what the broker has confirmed is copied to the queue returned; the copies are rows that can be sent again.</summary>
    public IReadOnlyCollection<Envelope> CopySent() => _sent = new ConcurrentQueue<Envelope>();

    /// <summary>Runs something once, after the next commit of messages and before they are delivered.</summary>
    public void OnNextCommit(Func<Task> action) => OnCommit(async () =>
    {
        await action();
        return true;
    });

    /// <summary>Runs something after each commit of messages and before they are delivered, until it returns true.</summary>
    public void OnCommit(Func<Task<bool>> action) => _onCommit = action;

    /// <summary>Ends this process. Not Environment.Exit and not FailFast: nothing of it may run any more, no handler, no finally.</summary>
    public static void KillThisProcess()
    {
        using var self = Process.GetCurrentProcess();
        self.Kill();
    }

    public void Clear()
    {
        BringBrokerBack();
        _sent = null;
        _onCommit = null;
    }

    private async ValueTask ReachedAsync(FaultPoint point, Envelope? envelope)
    {
        if (point == FaultPoint.AfterCommit && _onCommit is { } action && await action())
            _onCommit = null;

        if (point == FaultPoint.BeforeSend && _brokerIsDown)
        {
            Interlocked.Increment(ref _refusedSends);
            throw new TransportUnavailableException("The broker is down: an accident of the walkthrough.");
        }

        if (point == FaultPoint.AfterSend)
            _sent?.Enqueue(CopyOf(envelope!));
    }

    private static Envelope CopyOf(Envelope envelope) => new()
    {
        Bus = envelope.Bus,
        MessageId = envelope.MessageId,
        Destination = envelope.Destination,
        MessageType = envelope.MessageType,
        ContentType = envelope.ContentType,
        Headers = envelope.Headers,
        Properties = envelope.Properties,
        Body = envelope.Body,
    };
}
