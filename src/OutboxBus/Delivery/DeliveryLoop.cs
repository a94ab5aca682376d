using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// Delivers the envelopes of one bus from one database: takes what was handed off and claims the rest, sends many at
/// once, settles in batches. At least once, in no particular order; a row is deleted only after the broker confirmed it.
/// </summary>
internal sealed class DeliveryLoop
{
    private static readonly TimeSpan OnlyWhenWoken = TimeSpan.FromDays(1);
    private static readonly TimeSpan PauseAfterDefect = TimeSpan.FromSeconds(1);

    private readonly string _bus;
    private readonly TimeProvider _time;
    private readonly OutboxStore _store;
    private readonly HandOff _handOff;
    private readonly WakeUp _wakeUp;
    private readonly ILogger _logger;
    private readonly ClaimPacing _pacing;
    private readonly Circuit _circuit;
    private readonly Settlement _settlement;
    private readonly HeldEnvelopes _held = new();
    private readonly EnvelopeSource _source;
    private readonly EnvelopeSends _sends;

    public DeliveryLoop(
        string bus,
        OutboxStore store,
        DatabaseOutage outage,
        IEnvelopeSender sender,
        HandOff handOff,
        WakeUp wakeUp,
        DeliveryOptions options,
        TimeProvider time,
        OutboxMetrics metrics,
        FaultPoints faults,
        ILogger logger,
        Random? random = null)
    {
        random ??= Random.Shared;
        _bus = bus;
        _time = time;
        _store = store;
        _handOff = handOff;
        _wakeUp = wakeUp;
        _logger = logger;
        _pacing = new ClaimPacing(options, time, random);
        _circuit = new Circuit(options, time, random);
        _settlement = new Settlement(store, _held, _pacing, outage, wakeUp, options, time, metrics, logger);
        _sends = new EnvelopeSends(bus, store, sender, _held, _circuit, _pacing, _settlement, outage, wakeUp, options, time, metrics, faults, logger, random);
        _source = new EnvelopeSource(bus, store, handOff, _pacing, _circuit, _held, _settlement, outage, wakeUp, options, time, metrics, faults, logger);
        outage.Ended += () =>
        {
            _pacing.Resume();
            _settlement.TryNow();
            wakeUp.Set();
        };
    }

    /// <summary>
    /// Runs until the hand-off is closed and drained, then waits for what is in flight and settles it.
    /// </summary>
    /// <param name="stopClaiming">Phase one of a stop: what is handed off is still sent, nothing more is claimed.</param>
    /// <param name="abortSending">Phase two has lasted too long: what is in flight is left to its lease.</param>
    public async Task RunAsync(CancellationToken stopClaiming, CancellationToken abortSending)
    {
        var settling = _settlement.RunAsync(abortSending);
        try
        {
            while (!abortSending.IsCancellationRequested && !IsDrained(stopClaiming))
                await RunGuardedAsync(stopClaiming, abortSending);

            await _sends.DrainAsync(abortSending);
        }
        catch (Exception) when (abortSending.IsCancellationRequested)
        {
            // The host has no more time. The rows of what is in flight are left to their leases.
        }

        _settlement.Complete();
        await settling;
        _held.ForgetCompleted();
        if (_held.Count > 0)
            _logger.StopLeftMessages(_held.Count, _store.DatabaseKey);
    }

    /// <summary>One turn: take what there is, start sending it, or wait for something to do.</summary>
    internal async Task RunOnceAsync(CancellationToken stopClaiming, CancellationToken abortSending)
    {
        _wakeUp.Reset();
        var taken = await _source.TakeAsync(stopClaiming, abortSending);

        foreach (var leased in taken)
            await _sends.StartAsync(leased, abortSending);

        // Tested after the reset: the close that ends the loop must not be slept through.
        if (taken.Count == 0 && !IsDrained(stopClaiming))
            await _wakeUp.WaitAsync(IdleTime(stopClaiming), stopClaiming.IsCancellationRequested ? abortSending : stopClaiming);
    }

    /// <summary>Whatever goes wrong in one turn, delivery must not end in silence.</summary>
    private async Task RunGuardedAsync(CancellationToken stopClaiming, CancellationToken abortSending)
    {
        try
        {
            await RunOnceAsync(stopClaiming, abortSending);
        }
        catch (Exception exception) when (!abortSending.IsCancellationRequested)
        {
            _logger.TurnFailed(_bus, exception);
            await Task.Delay(PauseAfterDefect, _time, abortSending);
        }
    }

    private bool IsDrained(CancellationToken stopClaiming)
        => stopClaiming.IsCancellationRequested && !_source.IsClaiming && _handOff.IsClosed && (_handOff.IsEmpty || _circuit.IsOpen);

    /// <summary>How long there is nothing to do unless something wakes the loop.</summary>
    private TimeSpan IdleTime(CancellationToken stopClaiming)
    {
        if (_circuit.IsOpen && !_handOff.IsEmpty)
            return _circuit.UntilProbe;
        if (stopClaiming.IsCancellationRequested)
            return OnlyWhenWoken;
        if (_source.IsClaiming)
            return OnlyWhenWoken;
        if (_settlement.IsFailing)
            return PauseAfterDefect;
        return _circuit.IsOpen && _circuit.UntilProbe > _pacing.UntilDue ? _circuit.UntilProbe : _pacing.UntilDue;
    }
}
