using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// The sends under way: many at once, suspects one at a time beside them, each under a time limit, each concluded with
/// a verdict for settlement.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "Without wait handles a semaphore has nothing to dispose of, and sends may outlast the loop.")]
internal sealed class EnvelopeSends(
    string bus,
    OutboxStore store,
    IEnvelopeSender sender,
    HeldEnvelopes held,
    Circuit circuit,
    ClaimPacing pacing,
    Settlement settlement,
    DatabaseOutage outage,
    WakeUp wakeUp,
    DeliveryOptions options,
    TimeProvider time,
    OutboxMetrics metrics,
    FaultPoints faults,
    ILogger logger,
    Random random)
{
    // About what one send with its settlement takes.
    private static readonly TimeSpan SpacingAlone = TimeSpan.FromMilliseconds(20);

    private readonly Suspects _suspects = new();
    private readonly UnknownTypes _unknownTypes = new(time);
    private readonly SendLimits _limits = new(options.SendTimeout, time);
    private readonly SemaphoreSlim _window = new(options.MaxInFlight, options.MaxInFlight);
    private readonly SemaphoreSlim _apart = new(1, 1);
    private readonly long _started = time.GetTimestamp();
    private int _waitingAlone;
    private bool _shortLeaseNoted;
    private bool _markRefused;

    /// <summary>Starts sending an envelope, or concludes it where it must not be sent; waits while too many are in flight.</summary>
    public async Task StartAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        var envelope = leased.Envelope;
        if (!held.TryAdd(envelope))
            return;
        switch (DeliveryPolicy.Triage(envelope, _suspects.Contains(envelope), time.GetUtcNow()))
        {
            case Treatment.BuryExpired:
                await ConcludeAsync(envelope, Verdict.Bury(new Burial(envelope, DeadLetterReason.Expired, envelope.Attempts, envelope.LastError)), abortSending);
                break;

            case Treatment.BuryNoOutcome:
                await ConcludeAsync(envelope, Verdict.Bury(new Burial(envelope, DeadLetterReason.NoOutcome, envelope.Attempts, envelope.LastError)), abortSending);
                break;

            case Treatment.SendAlone:
                await StartAloneAsync(leased, abortSending);
                break;

            case Treatment.SendApart:
                _ = SendApartAsync(leased, abortSending);
                break;

            default:
                await _window.WaitAsync(abortSending);
                _ = SendAsync(leased, _window, abortSending);
                break;
        }
    }

    /// <summary>Waits for every send to be concluded.</summary>
    public async Task DrainAsync(CancellationToken abortSending)
    {
        for (var permit = 0; permit < options.MaxInFlight; permit++)
            await _window.WaitAsync(abortSending);
        await _apart.WaitAsync(abortSending);
    }

    /// <summary>Most rows that processes died with are innocent, and a crash may leave hundreds: they go one after the other.</summary>
    private async Task StartAloneAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        // A process that dies soon after its start, whatever of, must not put the blame on what it happened to send first.
        var untilSettledIn = options.Lease - time.GetElapsedTime(_started);
        if (untilSettledIn > TimeSpan.Zero || !_apart.Wait(0, CancellationToken.None))
        {
            var delay = SpacingAlone * ++_waitingAlone;
            await ConcludeAsync(leased.Envelope, DeliveryPolicy.PutBack(leased.Envelope, untilSettledIn > TimeSpan.Zero ? untilSettledIn + delay : delay), abortSending);
            return;
        }

        _waitingAlone = 0;
        _ = SendAloneAsync(leased, abortSending);
    }

    private async Task SendAloneAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        try
        {
            await store.MarkSentAloneAsync(leased.Envelope, abortSending).WaitAsync(abortSending);
        }
        catch (Exception exception)
        {
            // Not marked, not sent: its lease runs out and it is claimed again.
            held.Remove(leased.Envelope);
            _apart.Release();
            if (abortSending.IsCancellationRequested)
                return;
            if (store.IsAway(exception))
                outage.Failed(exception);
            else if (!Interlocked.Exchange(ref _markRefused, true))
                logger.StatementRefused(store.DatabaseKey, exception);
            return;
        }

        _markRefused = false;
        await SendAsync(leased, _apart, abortSending);
    }

    private async Task SendApartAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        try
        {
            await _apart.WaitAsync(abortSending);
        }
        catch (OperationCanceledException)
        {
            return;
        }

        await SendAsync(leased, _apart, abortSending);
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
            held.Remove(leased.Envelope);
            logger.DeliveryDefect(leased.Envelope.MessageId, exception);
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
        var started = time.GetTimestamp();
        if (time.GetElapsedTime(started, leased.LeaseEnds) < options.SendTimeout)
        {
            NoteShortLease(envelope);
            return envelope.ClaimCount > 0 ? DeliveryPolicy.PutBack(envelope, TimeSpan.Zero) : null;
        }

        var permission = circuit.Ask();
        if (permission == SendPermission.None)
            return DeliveryPolicy.PutBack(envelope, TimeSpan.Zero);

        try
        {
            var outcome = await SendWithinLimitAsync(envelope, abortSending);
            if (outcome.Kind == SendOutcomeKind.Confirmed)
                await faults.ReachAsync(FaultPoint.AfterSend, envelope);

            var charged = Note(leased, outcome, started, permission == SendPermission.Probe);
            var outagePause = TimeSpan.FromTicks(Math.Max(circuit.PauseLeft.Ticks, options.MinOutagePause.Ticks));
            return DeliveryPolicy.Judge(envelope, outcome, charged, outagePause, time.GetUtcNow(), options, random);
        }
        finally
        {
            if (permission == SendPermission.Probe)
            {
                circuit.ProbeEnded();
                wakeUp.Set();
            }
        }
    }

    private async Task<SendOutcome> SendWithinLimitAsync(Envelope envelope, CancellationToken abortSending)
    {
        var ended = _limits.Begin(abortSending);
        try
        {
            await faults.ReachAsync(FaultPoint.BeforeSend, envelope);
            // The sender may hang in spite of its token; the wait ends all the same, and the outcome is unknown.
            return await sender.SendAsync(envelope, ended).WaitAsync(ended);
        }
        catch (OperationCanceledException exception) when (!abortSending.IsCancellationRequested)
        {
            return SendOutcome.TransportFailed(new TimeoutException($"The broker gave no answer within {options.SendTimeout}.", exception));
        }
        catch (Exception exception) when (!abortSending.IsCancellationRequested)
        {
            return SendOutcome.TransportFailed(exception);
        }
    }

    /// <summary>Draws the conclusions of an outcome for circuit, suspects, logs and metrics; true when a transport failure costs the message an attempt.</summary>
    private bool Note(LeasedEnvelope leased, SendOutcome outcome, long started, bool probe)
    {
        var envelope = leased.Envelope;
        switch (outcome.Kind)
        {
            case SendOutcomeKind.Confirmed:
                _suspects.Forget(envelope);
                metrics.Confirmed(leased, time);
                logger.Delivered(envelope.MessageId, envelope.MessageType);
                if (circuit.Confirmed(started))
                {
                    logger.TransportIsBack(bus);
                    pacing.Expect(TimeSpan.Zero);
                    wakeUp.Set();
                }

                return false;

            case SendOutcomeKind.TransportFailed:
                var charged = _suspects.Failed(envelope, circuit.Confirmations);
                if (circuit.TransportFailed(started, probe))
                {
                    metrics.CircuitOpened();
                    logger.TransportFailed(bus, outcome.Error);
                }

                if (charged)
                    logger.Retrying(envelope.MessageId, envelope.MessageType, envelope.Attempts + 1, outcome.Error);
                return charged;

            case SendOutcomeKind.UnknownType:
                if (_unknownTypes.IsWorthALine(envelope.MessageType))
                    logger.UnknownType(envelope.MessageType, envelope.MessageId);
                return false;

            case SendOutcomeKind.Refused:
                // Says nothing of the broker: some messages are refused without asking it.
                _suspects.Forget(envelope);
                logger.Retrying(envelope.MessageId, envelope.MessageType, envelope.Attempts + 1, outcome.Error);
                return false;

            default:
                return false;
        }
    }

    /// <summary>A lease too short for one send would make every message wait for a claim: say so, once.</summary>
    private void NoteShortLease(Envelope envelope)
    {
        if (envelope.ClaimCount > 0 || envelope.VisibleAt - envelope.CreatedAt > options.SendTimeout || _shortLeaseNoted)
            return;
        _shortLeaseNoted = true;
        logger.FreshRowLeaseTooShort(envelope.VisibleAt - envelope.CreatedAt, options.SendTimeout);
    }

    private async Task ConcludeAsync(Envelope envelope, Verdict? verdict, CancellationToken abortSending)
    {
        if (verdict is not { } concluded)
        {
            held.Remove(envelope);
            return;
        }

        if (concluded.Buried is not null)
            _suspects.Forget(envelope);

        // Settlement needs keys only; thousands of verdicts may wait for a database that is away.
        envelope.Body = [];
        await settlement.AddAsync(concluded, abortSending);
    }
}
