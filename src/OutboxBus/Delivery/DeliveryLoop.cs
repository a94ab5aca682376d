using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// Delivers the envelopes of one bus from one database: takes what was handed off and claims the rest, sends many at
/// once, settles in batches. At least once, in no particular order; a row is deleted only after the broker confirmed it.
/// </summary>
internal sealed class DeliveryLoop : IDisposable
{
    private static readonly TimeSpan OnlyWhenWoken = TimeSpan.FromDays(1);

    private readonly string _bus;
    private readonly OutboxStore _store;
    private readonly IEnvelopeSender _sender;
    private readonly HandOff _handOff;
    private readonly WakeUp _wakeUp;
    private readonly DeliveryOptions _options;
    private readonly TimeProvider _time;
    private readonly OutboxMetrics _metrics;
    private readonly FaultPoints _faults;
    private readonly ILogger _logger;
    private readonly Random _random;
    private readonly ClaimPacing _pacing;
    private readonly Circuit _circuit;
    private readonly Suspects _suspects = new();
    private readonly Settlement _settlement;
    private readonly SemaphoreSlim _window;
    private readonly SemaphoreSlim _alone = new(1, 1);

    // In flight or not yet settled. A row whose lease ran out meanwhile may be claimed again: it must not be sent twice from here.
    private readonly ConcurrentDictionary<long, LeasedEnvelope> _held = new();
    private bool _databaseIsDown;
    private bool _shortLeaseNoted;

    public DeliveryLoop(
        string bus,
        OutboxStore store,
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
        _bus = bus;
        _store = store;
        _sender = sender;
        _handOff = handOff;
        _wakeUp = wakeUp;
        _options = options;
        _time = time;
        _metrics = metrics;
        _faults = faults;
        _logger = logger;
        _random = random ?? Random.Shared;
        _pacing = new ClaimPacing(options, time, _random);
        _circuit = new Circuit(options, time, _random);
        _settlement = new Settlement(store, options, time, metrics, logger);
        _window = new SemaphoreSlim(options.MaxInFlight, options.MaxInFlight);
    }

    /// <summary>
    /// Runs until the hand-off is closed and drained, then waits for what is in flight and settles it.
    /// </summary>
    /// <param name="stopClaiming">Phase one of a stop: what is handed off is still sent, nothing more is claimed.</param>
    /// <param name="abortSending">Phase two has lasted too long: what is in flight is left to its lease.</param>
    public async Task RunAsync(CancellationToken stopClaiming, CancellationToken abortSending)
    {
        var settling = _settlement.RunAsync(Settled, abortSending);
        try
        {
            while (!IsDrained(stopClaiming))
                await RunOnceAsync(stopClaiming, abortSending);

            for (var permit = 0; permit < _options.MaxInFlight; permit++)
                await _window.WaitAsync(abortSending);
            await _alone.WaitAsync(abortSending);
            _settlement.Complete();
            await settling;
        }
        catch (OperationCanceledException) when (abortSending.IsCancellationRequested)
        {
            _logger.StopLeftMessages(_held.Count, _store.DatabaseKey);
        }
    }

    public void Dispose()
    {
        _window.Dispose();
        _alone.Dispose();
    }

    /// <summary>One turn: take what there is, start sending it, or wait for something to do.</summary>
    internal async Task RunOnceAsync(CancellationToken stopClaiming, CancellationToken abortSending)
    {
        _wakeUp.Reset();
        var taken = await TakeHandedOffAsync(abortSending);
        taken.AddRange(await ClaimAsync(taken.Count, stopClaiming));

        foreach (var leased in taken)
            await StartAsync(leased, abortSending);

        if (taken.Count == 0)
            await _wakeUp.WaitAsync(IdleTime(stopClaiming), stopClaiming.IsCancellationRequested ? abortSending : stopClaiming);
    }

    /// <summary>How long there is nothing to do unless something wakes the loop.</summary>
    private TimeSpan IdleTime(CancellationToken stopClaiming)
    {
        if (_circuit.IsOpen && !_handOff.IsEmpty)
            return _circuit.UntilProbe;
        if (stopClaiming.IsCancellationRequested)
            return OnlyWhenWoken;
        return _circuit.IsOpen ? Max(_circuit.UntilProbe, _pacing.UntilDue) : _pacing.UntilDue;
    }

    private bool IsDrained(CancellationToken stopClaiming)
        => stopClaiming.IsCancellationRequested && _handOff.IsClosed && (_handOff.IsEmpty || _circuit.IsOpen);

    private async Task<List<LeasedEnvelope>> TakeHandedOffAsync(CancellationToken cancellationToken)
    {
        var taken = new List<LeasedEnvelope>();
        var unverified = new List<LeasedEnvelope>();
        while (MaySend(taken.Count + unverified.Count) && _handOff.TryTake(out var handedOff))
            (handedOff.Certainty == CommitCertainty.Proven ? taken : unverified).AddRange(handedOff.Envelopes);

        if (unverified.Count > 0)
            taken.AddRange(await VerifyAsync(unverified, cancellationToken));
        return taken;
    }

    private async Task<IEnumerable<LeasedEnvelope>> VerifyAsync(List<LeasedEnvelope> unverified, CancellationToken cancellationToken)
    {
        try
        {
            var committed = (await _store.VerifyAsync([.. unverified.Select(leased => leased.Envelope)], cancellationToken)).ToHashSet();
            return unverified.Where(leased => committed.Contains(leased.Envelope));
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            // Nothing is known of these rows, so nothing is sent: the leases of those that exist run out and they are claimed.
            NoteDatabaseFailure(exception);
            return [];
        }
    }

    private async Task<IReadOnlyList<LeasedEnvelope>> ClaimAsync(int alreadyTaken, CancellationToken stopClaiming)
    {
        if (stopClaiming.IsCancellationRequested || !_pacing.IsDue || !MaySend(alreadyTaken))
            return [];

        var limit = _circuit.IsOpen ? 1 : _options.ClaimBatch;
        var claimStarted = _time.GetTimestamp();
        IReadOnlyList<Envelope> claimed;
        try
        {
            claimed = await _store.ClaimAsync(_bus, limit, _options.Lease, stopClaiming);
        }
        catch (OperationCanceledException) when (stopClaiming.IsCancellationRequested)
        {
            return [];
        }
        catch (Exception exception)
        {
            NoteDatabaseFailure(exception);
            return [];
        }

        NoteDatabaseAnswer();
        _pacing.Claimed(claimed.Count, limit);
        if (claimed.Count == 0)
            return [];

        _logger.Claimed(claimed.Count, _store.DatabaseKey);
        _metrics.Claimed(claimed.Count);
        await _faults.ReachAsync(FaultPoint.AfterClaim, null);
        var leaseEnds = claimStarted + (long)(_options.Lease.TotalSeconds * _time.TimestampFrequency);
        return [.. claimed.Where(envelope => !IsHeld(envelope)).Select(envelope => new LeasedEnvelope(envelope, leaseEnds))];
    }

    /// <summary>With the circuit open one message at a time may go, when the pause is over.</summary>
    private bool MaySend(int alreadyTaken)
        => _circuit.IsOpen ? _circuit.MayProbe && alreadyTaken == 0 : alreadyTaken < _options.ClaimBatch;

    private bool IsHeld(Envelope claimed)
    {
        if (!_held.TryGetValue(claimed.Id, out var held) || held.Envelope.MessageId != claimed.MessageId)
            return false;
        // Its settlement must pass the fence of the newest claim.
        held.Envelope.VisibleAt = claimed.VisibleAt;
        return true;
    }

    private async Task StartAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        var envelope = leased.Envelope;
        _held[envelope.Id] = leased;
        switch (DeliveryPolicy.Triage(envelope, _suspects.Contains(envelope), _time.GetUtcNow()))
        {
            case Treatment.BuryExpired:
                await ConcludeAsync(envelope, Verdict.Bury(new Burial(envelope, DeadLetterReason.Expired, envelope.Attempts, envelope.LastError)), abortSending);
                break;

            case Treatment.BuryNoOutcome:
                await ConcludeAsync(envelope, Verdict.Bury(new Burial(envelope, DeadLetterReason.NoOutcome, envelope.Attempts, envelope.LastError)), abortSending);
                break;

            case Treatment.SendAlone when envelope.ClaimCount >= DeliveryPolicy.ClaimsBeforeSuspicion:
                // One such message at a time may be under way: should it kill the process, the others must not look guilty.
                if (_alone.Wait(0, CancellationToken.None))
                    _ = SendAsync(leased, _alone, abortSending);
                else
                    await ConcludeAsync(envelope, DeliveryPolicy.PutBack(envelope, _options.MinBackoff), abortSending);
                break;

            case Treatment.SendAlone:
                _ = SendAloneAsync(leased, abortSending);
                break;

            default:
                await _window.WaitAsync(abortSending);
                _ = SendAsync(leased, _window, abortSending);
                break;
        }
    }

    private async Task SendAloneAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        try
        {
            await _alone.WaitAsync(abortSending);
        }
        catch (OperationCanceledException)
        {
            return;
        }

        await SendAsync(leased, _alone, abortSending);
    }

    /// <summary>Sends one envelope and concludes it; gives the permit back. Never throws: nobody awaits it.</summary>
    private async Task SendAsync(LeasedEnvelope leased, SemaphoreSlim permit, CancellationToken abortSending)
    {
        try
        {
            await ConcludeAsync(leased.Envelope, await DeliverAsync(leased, abortSending), abortSending);
        }
        catch (OperationCanceledException) when (abortSending.IsCancellationRequested)
        {
            // The host could not wait any longer: the outcome is unknown and the row is left to its lease.
        }
        catch (Exception exception)
        {
            _held.TryRemove(leased.Envelope.Id, out _);
            _logger.DeliveryDefect(leased.Envelope.MessageId, exception);
        }
        finally
        {
            permit.Release();
        }
    }

    /// <summary>Sends one envelope; null when its row is to be left to its lease.</summary>
    private async Task<Verdict?> DeliverAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        var envelope = leased.Envelope;
        var started = _time.GetTimestamp();
        var leaseLeft = _time.GetElapsedTime(started, leased.LeaseEnds);
        if (leaseLeft < _options.SendTimeout)
            NoteShortLease(envelope);
        if (leaseLeft < _options.SendTimeout || !_circuit.TryBeginSend())
            return envelope.ClaimCount > 0 ? DeliveryPolicy.PutBack(envelope, TimeSpan.Zero) : null;

        var outcome = await SendWithinLimitAsync(envelope, abortSending);
        if (outcome.Kind == SendOutcomeKind.Confirmed)
            await _faults.ReachAsync(FaultPoint.AfterSend, envelope);

        var charged = Note(envelope, outcome, started);
        var pause = _circuit.IsOpen ? Max(_circuit.UntilProbe, _options.MinOutagePause) : _options.MinOutagePause;
        return DeliveryPolicy.Judge(envelope, outcome, charged, pause, _options, _random);
    }

    private async Task<SendOutcome> SendWithinLimitAsync(Envelope envelope, CancellationToken abortSending)
    {
        using var limit = new CancellationTokenSource(_options.SendTimeout, _time);
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, abortSending);
        try
        {
            await _faults.ReachAsync(FaultPoint.BeforeSend, envelope);
            // The sender may hang in spite of its token; the wait ends all the same, and the outcome is unknown.
            return await _sender.SendAsync(envelope, ended.Token).WaitAsync(ended.Token);
        }
        catch (OperationCanceledException exception) when (!abortSending.IsCancellationRequested)
        {
            return SendOutcome.TransportFailed(new TimeoutException($"The broker gave no answer within {_options.SendTimeout}.", exception));
        }
        catch (Exception exception) when (!abortSending.IsCancellationRequested)
        {
            return SendOutcome.TransportFailed(exception);
        }
    }

    /// <summary>Draws the conclusions of an outcome for the circuit, the suspects, logs and metrics; true when it costs the message an attempt.</summary>
    private bool Note(Envelope envelope, SendOutcome outcome, long started)
    {
        switch (outcome.Kind)
        {
            case SendOutcomeKind.Confirmed:
                NoteAnswer(envelope, started);
                _metrics.Confirmed(envelope, _time);
                _logger.Delivered(envelope.MessageId, envelope.MessageType);
                return false;

            case SendOutcomeKind.TransportFailed:
                var charged = _suspects.Failed(envelope, _circuit.Answers);
                if (_circuit.TransportFailed(started))
                {
                    _metrics.CircuitOpened();
                    _logger.TransportFailed(_bus, outcome.Error);
                }

                if (charged)
                    _logger.Retrying(envelope.MessageId, envelope.MessageType, envelope.Attempts + 1, outcome.Error);
                return charged;

            case SendOutcomeKind.UnknownType:
                _circuit.NotAsked();
                _logger.UnknownType(envelope.MessageId, envelope.MessageType);
                return false;

            case SendOutcomeKind.Corrupt:
                _circuit.NotAsked();
                return false;

            default:
                NoteAnswer(envelope, started);
                _logger.Retrying(envelope.MessageId, envelope.MessageType, envelope.Attempts + 1, outcome.Error);
                return true;
        }
    }

    private void NoteAnswer(Envelope envelope, long started)
    {
        _suspects.Forget(envelope);
        if (!_circuit.Answered(started))
            return;
        _logger.TransportIsBack(_bus);
        _pacing.Expect(TimeSpan.Zero);
        _wakeUp.Set();
    }

    /// <summary>A lease too short for one send would make every message wait for a claim: say so, once.</summary>
    private void NoteShortLease(Envelope envelope)
    {
        if (envelope.ClaimCount > 0 || envelope.VisibleAt - envelope.CreatedAt > _options.SendTimeout || _shortLeaseNoted)
            return;
        _shortLeaseNoted = true;
        _logger.FreshRowLeaseTooShort(envelope.VisibleAt - envelope.CreatedAt, _options.SendTimeout);
    }

    private async Task ConcludeAsync(Envelope envelope, Verdict? verdict, CancellationToken abortSending)
    {
        if (verdict is not { } concluded)
        {
            _held.TryRemove(envelope.Id, out _);
            return;
        }

        if (concluded.Rescheduled is { } rescheduling)
        {
            _pacing.Expect(rescheduling.Delay + _options.SettleDelay);
            _wakeUp.Set();
        }

        if (concluded.Buried is { } burial)
            _logger.DeadLettered(envelope.MessageId, envelope.MessageType, burial.Reason, burial.Attempts, burial.Error);
        await _settlement.AddAsync(concluded, abortSending);
    }

    private void Settled(IReadOnlyList<Verdict> verdicts)
    {
        foreach (var verdict in verdicts)
            _held.TryRemove(verdict.Envelope.Id, out _);
    }

    private void NoteDatabaseFailure(Exception exception)
    {
        _pacing.Failed(Max(_options.PollInterval, TimeSpan.FromSeconds(1)));
        if (_databaseIsDown)
            return;
        _databaseIsDown = true;
        _logger.DatabaseFailed(_store.DatabaseKey, exception);
    }

    private void NoteDatabaseAnswer()
    {
        if (!_databaseIsDown)
            return;
        _databaseIsDown = false;
        _logger.DatabaseIsBack(_store.DatabaseKey);
    }

    private static TimeSpan Max(TimeSpan left, TimeSpan right) => left > right ? left : right;
}
