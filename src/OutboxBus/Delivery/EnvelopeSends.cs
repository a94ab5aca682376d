using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// The sends under way: many at once, suspects one at a time beside them, each under a time limit, each concluded with
/// a verdict for settlement.
/// </summary>
internal sealed class EnvelopeSends(
    string bus,
    IEnvelopeSender sender,
    Circuit circuit,
    ClaimPacing pacing,
    Settlement settlement,
    WakeUp wakeUp,
    DeliveryOptions options,
    TimeProvider time,
    OutboxMetrics metrics,
    FaultPoints faults,
    ILogger logger,
    Random random) : IDisposable
{
    // About what one send with its settlement takes.
    private static readonly TimeSpan SpacingApart = TimeSpan.FromMilliseconds(20);

    private readonly Suspects _suspects = new();
    private readonly SemaphoreSlim _window = new(options.MaxInFlight, options.MaxInFlight);
    private readonly SemaphoreSlim _apart = new(1, 1);

    // In flight or not yet settled. A row whose lease ran out meanwhile may be claimed again: it must not be sent twice from here.
    private readonly ConcurrentDictionary<long, LeasedEnvelope> _held = new();
    private int _waitingApart;
    private bool _shortLeaseNoted;

    /// <summary>The envelopes in flight or not yet settled.</summary>
    public int Count => _held.Count;

    /// <summary>Whether a row just claimed is in flight or unsettled here; if so, its settlement goes by the new claim.</summary>
    public bool TakesOver(Envelope claimed)
    {
        if (!_held.TryGetValue(claimed.Id, out var held) || held.Envelope.MessageId != claimed.MessageId)
            return false;
        held.Envelope.VisibleAt = claimed.VisibleAt;
        return true;
    }

    /// <summary>Starts sending an envelope, or concludes it where it must not be sent; waits while too many are in flight.</summary>
    public async Task StartAsync(LeasedEnvelope leased, CancellationToken abortSending)
    {
        var envelope = leased.Envelope;
        _held[envelope.Id] = leased;
        switch (DeliveryPolicy.Triage(envelope, _suspects.Contains(envelope), time.GetUtcNow()))
        {
            case Treatment.BuryExpired:
                await ConcludeAsync(envelope, Verdict.Bury(new Burial(envelope, DeadLetterReason.Expired, envelope.Attempts, envelope.LastError)), abortSending);
                break;

            case Treatment.BuryNoOutcome:
                await ConcludeAsync(envelope, Verdict.Bury(new Burial(envelope, DeadLetterReason.NoOutcome, envelope.Attempts, envelope.LastError)), abortSending);
                break;

            case Treatment.SendApart when envelope.ClaimCount >= DeliveryPolicy.ClaimsBeforeSuspicion:
                // One such message at a time may be under way: should it kill the process, the others must not look guilty.
                // Most of them are innocent and a crash may leave hundreds, so they come back one after the other.
                if (_apart.Wait(0, CancellationToken.None))
                {
                    _waitingApart = 0;
                    _ = SendAsync(leased, _apart, abortSending);
                }
                else
                {
                    await ConcludeAsync(envelope, DeliveryPolicy.PutBack(envelope, SpacingApart * ++_waitingApart), abortSending);
                }

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

    /// <summary>Verdicts are in the database: their envelopes are nobody's business here any more.</summary>
    public void Settled(IReadOnlyList<Verdict> verdicts)
    {
        foreach (var verdict in verdicts)
            _held.TryRemove(verdict.Envelope.Id, out _);
    }

    public void Dispose()
    {
        _window.Dispose();
        _apart.Dispose();
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
            _held.TryRemove(leased.Envelope.Id, out _);
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
        var leaseSuffices = time.GetElapsedTime(started, leased.LeaseEnds) >= options.SendTimeout;
        if (!leaseSuffices)
            NoteShortLease(envelope);
        if (!leaseSuffices || !circuit.TryBeginSend())
            return envelope.ClaimCount > 0 ? DeliveryPolicy.PutBack(envelope, TimeSpan.Zero) : null;

        var outcome = await SendWithinLimitAsync(envelope, abortSending);
        if (outcome.Kind == SendOutcomeKind.Confirmed)
            await faults.ReachAsync(FaultPoint.AfterSend, envelope);

        var charged = Note(envelope, outcome, started);
        var pause = circuit.IsOpen && circuit.UntilProbe > options.MinOutagePause ? circuit.UntilProbe : options.MinOutagePause;
        return DeliveryPolicy.Judge(envelope, outcome, charged, pause, options, random);
    }

    private async Task<SendOutcome> SendWithinLimitAsync(Envelope envelope, CancellationToken abortSending)
    {
        using var limit = new CancellationTokenSource(options.SendTimeout, time);
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, abortSending);
        try
        {
            await faults.ReachAsync(FaultPoint.BeforeSend, envelope);
            // The sender may hang in spite of its token; the wait ends all the same, and the outcome is unknown.
            return await sender.SendAsync(envelope, ended.Token).WaitAsync(ended.Token);
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
    private bool Note(Envelope envelope, SendOutcome outcome, long started)
    {
        switch (outcome.Kind)
        {
            case SendOutcomeKind.Confirmed:
                NoteAnswer(envelope, started);
                metrics.Confirmed(envelope, time);
                logger.Delivered(envelope.MessageId, envelope.MessageType);
                return false;

            case SendOutcomeKind.TransportFailed:
                var charged = _suspects.Failed(envelope, circuit.Answers);
                if (circuit.TransportFailed(started))
                {
                    metrics.CircuitOpened();
                    logger.TransportFailed(bus, outcome.Error);
                }

                if (charged)
                    logger.Retrying(envelope.MessageId, envelope.MessageType, envelope.Attempts + 1, outcome.Error);
                return charged;

            case SendOutcomeKind.UnknownType:
                circuit.NotAsked();
                logger.UnknownType(envelope.MessageId, envelope.MessageType);
                return false;

            case SendOutcomeKind.Corrupt:
                circuit.NotAsked();
                return false;

            default:
                NoteAnswer(envelope, started);
                logger.Retrying(envelope.MessageId, envelope.MessageType, envelope.Attempts + 1, outcome.Error);
                return false;
        }
    }

    private void NoteAnswer(Envelope envelope, long started)
    {
        _suspects.Forget(envelope);
        if (!circuit.Answered(started))
            return;
        logger.TransportIsBack(bus);
        pacing.Expect(TimeSpan.Zero);
        wakeUp.Set();
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
            _held.TryRemove(envelope.Id, out _);
            return;
        }

        if (concluded.Rescheduled is { } rescheduling)
        {
            pacing.Expect(rescheduling.Delay + options.SettleDelay);
            wakeUp.Set();
        }

        if (concluded.Buried is { } burial)
        {
            _suspects.Forget(envelope);
            logger.DeadLettered(envelope.MessageId, envelope.MessageType, burial.Reason, burial.Attempts, burial.Error);
        }

        await settlement.AddAsync(concluded, abortSending);
    }
}
