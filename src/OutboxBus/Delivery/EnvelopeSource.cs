using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>Where delivery's work comes from: envelopes handed off by this process, and rows claimed from the database.</summary>
internal sealed class EnvelopeSource(
    string bus,
    OutboxStore store,
    HandOff handOff,
    ClaimPacing pacing,
    Circuit circuit,
    HeldEnvelopes held,
    Settlement settlement,
    DatabaseOutage outage,
    WakeUp wakeUp,
    DeliveryOptions options,
    TimeProvider time,
    OutboxMetrics metrics,
    FaultPoints faults,
    ILogger logger)
{
    private const int OverflowBatch = 1000;
    private static readonly TimeSpan PauseAfterRefusal = TimeSpan.FromSeconds(1);

    private readonly ClaimRange _range = new(options, time);
    private bool _refused;
    private Task<IReadOnlyList<LeasedEnvelope>>? _claiming;

    /// <summary>Whether a claim is under way; its end wakes the loop.</summary>
    public bool IsClaiming => _claiming is not null;

    /// <summary>Takes what is there without waiting for more: first what was handed off, then, when it is time, a claim.</summary>
    public async Task<IReadOnlyList<LeasedEnvelope>> TakeAsync(CancellationToken stopClaiming, CancellationToken abortSending)
    {
        if (_claiming is null)
            held.ForgetCompleted();
        while (handOff.TryTakeDelay(out var dueAt))
            pacing.ExpectAt(dueAt);
        var taken = await TakeHandedOffAsync(abortSending);
        if (handOff.IsEmpty && !circuit.IsOpen && !settlement.IsFailing)
            await GiveBackOverflowAsync(abortSending);
        // What is confirmed is deleted before it can be claimed.
        if (_claiming is null && !stopClaiming.IsCancellationRequested && pacing.IsDue && !settlement.IsFailing && (!circuit.IsOpen || MayTake(taken.Count)))
        {
            _claiming = ClaimAsync(stopClaiming);
            _ = WakeAfterAsync(_claiming);
        }

        // A claim that hangs must not keep back what was handed off.
        if (_claiming is not { IsCompleted: true } claimed)
            return taken;
        _claiming = null;
        // Hand-offs without end must not keep retries and other processes' rows waiting.
        return [.. (await claimed).Where(leased => !held.TakesOver(leased.Envelope)), .. taken];
    }

    /// <summary>Gives rows back that this process had no room for, so that they are claimed at once; those whose lease has ended or whose commit came to nothing are left as they are.</summary>
    private async Task GiveBackOverflowAsync(CancellationToken abortSending)
    {
        for (var given = 0; given < OverflowBatch && handOff.TryTakeOverflow(out var keys); given++)
            await settlement.AddAsync(DeliveryPolicy.PutBack(keys, TimeSpan.Zero), abortSending);
    }

    /// <summary>Only when the claim has ended can the loop, once woken, see that it has.</summary>
    private async Task WakeAfterAsync(Task claim)
    {
        await claim.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        wakeUp.Set();
    }

    /// <summary>With the circuit open one message at a time may go, when the pause is over.</summary>
    private bool MayTake(int alreadyTaken) => circuit.IsOpen ? circuit.MayProbe && alreadyTaken == 0 : alreadyTaken < options.ClaimBatch;

    private async Task<List<LeasedEnvelope>> TakeHandedOffAsync(CancellationToken abortSending)
    {
        var taken = new List<LeasedEnvelope>();
        var unverified = new List<LeasedEnvelope>();
        while (MayTake(taken.Count + unverified.Count) && handOff.TryTake(out var handedOff))
            (handedOff.Certainty == CommitCertainty.Proven ? taken : unverified).AddRange(handedOff.Envelopes);

        // Somebody has just committed, so it is worth asking the database now.
        if (outage.IsOn && taken.Count + unverified.Count > 0)
        {
            pacing.Resume();
            settlement.TryNow();
        }

        if (unverified.Count > 0)
            taken.AddRange(await VerifyAsync(unverified, abortSending));
        return taken;
    }

    private async Task<IEnumerable<LeasedEnvelope>> VerifyAsync(List<LeasedEnvelope> unverified, CancellationToken abortSending)
    {
        try
        {
            var committed = (await store.VerifyAsync([.. unverified.Select(leased => leased.Envelope)], abortSending).WaitAsync(abortSending)).ToHashSet();
            outage.Answered();
            return unverified.Where(leased => committed.Contains(leased.Envelope));
        }
        catch (Exception exception) when (!abortSending.IsCancellationRequested)
        {
            // Nothing is known of these rows, so nothing is sent: the leases of those that exist run out and they are claimed.
            NoteFailure(exception);
            return [];
        }
    }

    private async Task<IReadOnlyList<LeasedEnvelope>> ClaimAsync(CancellationToken stopClaiming)
    {
        var limit = circuit.IsOpen ? 1 : options.ClaimBatch;
        var claimStarted = time.GetTimestamp();
        IReadOnlyList<Envelope> claimed;
        var unreadable = new List<long>();
        pacing.Claiming();
        var within = _range.Next();
        try
        {
            // A driver may be deaf to its token while the network hangs; the stop waits for nobody.
            claimed = await store.ClaimAsync(bus, limit, options.Lease, stopClaiming, unreadable, within).WaitAsync(stopClaiming);
        }
        catch (Exception) when (stopClaiming.IsCancellationRequested)
        {
            return [];
        }
        catch (Exception exception)
        {
            NoteFailure(exception);
            return [];
        }

        outage.Answered();
        _refused = false;
        if (within is null)
            _range.Looked(claimStarted, claimed.Count + unreadable.Count, limit);
        pacing.Claimed(claimed.Count + unreadable.Count, limit);
        if (unreadable.Count > 0)
            logger.RowsUnreadable(unreadable.Count, store.DatabaseKey, unreadable[0]);
        if (claimed.Count == 0)
            return [];

        logger.Claimed(claimed.Count, store.DatabaseKey);
        metrics.Claimed(claimed.Count);
        await faults.ReachAsync(FaultPoint.AfterClaim, null);
        var leaseEnds = claimStarted + (long)(options.Lease.TotalSeconds * time.TimestampFrequency);
        return [.. claimed.Select(envelope => new LeasedEnvelope(envelope, leaseEnds))];
    }

    private void NoteFailure(Exception exception)
    {
        if (store.IsAway(exception))
        {
            pacing.Failed(outage.Failed(exception));
            return;
        }

        pacing.Failed(options.PollInterval > PauseAfterRefusal ? options.PollInterval : PauseAfterRefusal);
        if (!_refused)
            logger.StatementRefused(store.DatabaseKey, exception);
        _refused = true;
    }
}
