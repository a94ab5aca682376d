using MassTransit;
using OutboxBus;
using OutboxBus.Diagnostics;

namespace Orders.Walkthrough;

/// <summary>
/// Makes things go wrong at the named points that OutboxBus offers to tests. With a sabotaged step the accident itself
/// goes wrong, which shows that the step's checks can fail.
/// </summary>
public sealed class Accidents(string? sabotagedStep = null)
{
    private Func<Task>? _onNextCommit;
    private volatile bool _brokerIsDown;
    private int _refusedSends;

    public FaultPoints FaultPoints => new(ReachedAsync);

    /// <summary>How many sends have failed because the broker was down.</summary>
    public int RefusedSends => Volatile.Read(ref _refusedSends);

    public bool IsSabotaged(string step) => step == sabotagedStep;

    /// <summary>From now on every send fails as if no broker could be reached.</summary>
    public void TakeBrokerDown() => _brokerIsDown = true;

    public void BringBrokerBack() => _brokerIsDown = false;

    /// <summary>Runs something once, after the next commit and before anything is delivered.</summary>
    public void OnNextCommit(Func<Task> action) => _onNextCommit = action;

    public void Clear()
    {
        BringBrokerBack();
        _onNextCommit = null;
    }

    private async ValueTask ReachedAsync(FaultPoint point, Envelope? envelope)
    {
        if (point == FaultPoint.AfterCommit && Interlocked.Exchange(ref _onNextCommit, null) is { } action)
            await action();

        if (point == FaultPoint.BeforeSend && _brokerIsDown)
        {
            Interlocked.Increment(ref _refusedSends);
            throw new TransportUnavailableException("The broker is down: an accident of the walkthrough.");
        }
    }
}
