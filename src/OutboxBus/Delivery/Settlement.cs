using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// Writes verdicts to the database in batches, across commits. While the database is away the verdicts are kept, bounded
/// by the queue, and nothing is claimed: what was confirmed is not sent again by this process.
/// </summary>
internal sealed class Settlement(
    OutboxStore store,
    HeldEnvelopes held,
    ClaimPacing pacing,
    DatabaseOutage outage,
    WakeUp wakeUp,
    DeliveryOptions options,
    TimeProvider time,
    OutboxMetrics metrics,
    ILogger logger)
{
    private const int BatchSize = 1000;
    private const int QueueSize = 10 * BatchSize;
    private const int TriesWhenRefused = 3;
    private static readonly TimeSpan PauseAfterRefusal = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LastWriteTime = TimeSpan.FromSeconds(2);

    private readonly Channel<Verdict> _verdicts = Channel.CreateBounded<Verdict>(
        new BoundedChannelOptions(QueueSize) { SingleReader = true });

    private readonly WakeUp _tryNow = new(time);
    private List<Verdict> _unwritten = [];
    private bool _refused;

    /// <summary>Whether the database could not be written to at the last try.</summary>
    public bool IsFailing { get; private set; }

    /// <summary>Takes a verdict; waits while too many are unwritten, which slows sending down.</summary>
    public ValueTask AddAsync(Verdict verdict, CancellationToken cancellationToken) => _verdicts.Writer.WriteAsync(verdict, cancellationToken);

    /// <summary>Cuts the pause before the next try short: the database seems to be back.</summary>
    public void TryNow() => _tryNow.Set();

    /// <summary>No more verdicts will come.</summary>
    public void Complete() => _verdicts.Writer.TryComplete();

    /// <summary>Writes verdicts until <see cref="Complete"/> and the last one; when aborted, tries once more and ends. Does not throw.</summary>
    public async Task RunAsync(CancellationToken abort)
    {
        try
        {
            while (await _verdicts.Reader.WaitToReadAsync(abort))
            {
                if (_verdicts.Reader.Count < BatchSize && options.SettleDelay > TimeSpan.Zero)
                    await Task.Delay(options.SettleDelay, time, abort);
                await WriteAsync(Take(), abort);
                _unwritten = [];
            }
        }
        catch (Exception) when (abort.IsCancellationRequested)
        {
            await WriteLastAsync();
        }
    }

    private List<Verdict> Take()
    {
        _unwritten = [];
        while (_unwritten.Count < BatchSize && _verdicts.Reader.TryRead(out var verdict))
            _unwritten.Add(verdict);
        return _unwritten;
    }

    private async Task WriteAsync(List<Verdict> verdicts, CancellationToken abort)
    {
        if (await TryWriteAsync(verdicts, abort))
            return;

        // The database is there and refuses: one verdict must not hold up the others.
        var refused = verdicts;
        for (var tries = 0; tries < TriesWhenRefused && refused.Count > 0; tries++)
        {
            if (tries > 0)
                await Task.Delay(PauseAfterRefusal, time, abort);
            var still = new List<Verdict>();
            foreach (var verdict in refused)
            {
                if (!await TryWriteAsync([verdict], abort))
                    still.Add(verdict);
            }

            refused = still;
        }

        foreach (var verdict in refused)
        {
            held.Remove(verdict.Envelope);
            logger.SettlementGivenUp(verdict.Envelope.MessageId);
        }
    }

    /// <summary>
    /// Writes verdicts, again and again while the database is away; false when it refuses them. Each statement may be
    /// repeated: deletes go by pair, the rest by fence.
    /// </summary>
    private async Task<bool> TryWriteAsync(List<Verdict> verdicts, CancellationToken abort)
    {
        var batch = SettlementBatch.From(verdicts);
        while (true)
        {
            _tryNow.Reset();
            TimeSpan pause;
            try
            {
                await WriteOnceAsync(batch, abort);
                NoteAnswer();
                return true;
            }
            catch (Exception exception) when (!abort.IsCancellationRequested && store.IsAway(exception))
            {
                IsFailing = true;
                pause = outage.Failed(exception);
            }
            catch (Exception exception) when (!abort.IsCancellationRequested)
            {
                NoteRefusal(exception);
                return false;
            }

            await _tryNow.WaitAsync(pause, abort);
            abort.ThrowIfCancellationRequested();
        }
    }

    private void NoteAnswer()
    {
        // Before the end of the outage wakes the loop, which claims nothing while this is set.
        (_refused, IsFailing) = (false, false);
        outage.Answered();
    }

    private void NoteRefusal(Exception exception)
    {
        // It has answered.
        IsFailing = false;
        if (!_refused)
            logger.SettlementRefused(store.DatabaseKey, exception);
        _refused = true;
    }

    private void NoteBuried(Burial burial)
    {
        var envelope = burial.Envelope;
        metrics.DeadLettered(burial.Reason);
        logger.DeadLettered(envelope.MessageId, envelope.MessageType, burial.Reason, burial.Attempts, burial.Error);
    }

    private async Task WriteOnceAsync(SettlementBatch batch, CancellationToken cancellationToken)
    {
        foreach (var rescheduling in batch.Rescheduled)
            held.Remove(rescheduling.Envelope);
        foreach (var burial in batch.Buried)
            held.Remove(burial.Envelope);

        // A driver may be deaf to its token while the network hangs; the stop waits for nobody.
        await store.SettleAsync(batch, cancellationToken, NoteBuried).WaitAsync(cancellationToken);

        metrics.Retried(batch.Retried);
        foreach (var envelope in batch.Completed)
            held.Completed(envelope);
        foreach (var delay in batch.Awaited)
            pacing.Expect(delay);
        if (batch.Awaited.Count > 0)
            wakeUp.Set();
    }

    /// <summary>The host has no more time. What is confirmed but not written would be sent again after the next start.</summary>
    private async Task WriteLastAsync()
    {
        using var limit = new CancellationTokenSource(LastWriteTime, time);
        try
        {
            do
            {
                if (_unwritten.Count > 0)
                    await WriteOnceAsync(SettlementBatch.From(_unwritten), limit.Token);
            }
            while (Take().Count > 0);
        }
        catch (OperationCanceledException) when (limit.IsCancellationRequested)
        {
            // The database hangs: it has refused nothing. The end of the loop reports what is left.
        }
        catch (Exception exception)
        {
            if (store.IsAway(exception))
                outage.Failed(exception);
            else
                NoteRefusal(exception);
        }
    }
}

/// <summary>Verdicts sorted by what is to be done.</summary>
internal sealed record SettlementBatch(IReadOnlyList<Envelope> Completed, IReadOnlyList<Rescheduling> Rescheduled, IReadOnlyList<Burial> Buried)
{
    /// <summary>After how long this process wants to see rows again.</summary>
    public IReadOnlyList<TimeSpan> Awaited { get; private init; } = [];

    /// <summary>How many sends have failed and will be repeated; rows put back unsent do not count.</summary>
    public int Retried { get; private init; }

    public static SettlementBatch From(IReadOnlyList<Verdict> verdicts)
    {
        // In the order of ids, so that instances never wait for each other's rows in a circle.
        var ordered = verdicts.OrderBy(verdict => verdict.Envelope.Id).ToList();
        return new SettlementBatch(
            [.. ordered.Where(verdict => verdict.Completed is not null).Select(verdict => verdict.Completed!)],
            [.. ordered.Where(verdict => verdict.Rescheduled is not null).Select(verdict => verdict.Rescheduled!)],
            [.. ordered.Where(verdict => verdict.Buried is not null).Select(verdict => verdict.Buried!)])
        {
            Awaited = [.. ordered.Where(verdict => verdict is { Rescheduled: not null, ForOthers: false }).Select(verdict => verdict.Rescheduled!.Delay)],
            Retried = ordered.Count(verdict => verdict is { Rescheduled.Error: not null, ForOthers: false }),
        };
    }
}
