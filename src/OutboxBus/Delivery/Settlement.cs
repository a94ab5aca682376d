using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// Writes verdicts to the database in batches, across commits. While the database is down the verdicts are kept, bounded
/// by the queue, and written first when it is back: what was confirmed is never sent again by this process.
/// </summary>
internal sealed class Settlement(OutboxStore store, DeliveryOptions options, TimeProvider time, OutboxMetrics metrics, ILogger logger)
{
    private const int BatchSize = 1000;
    private const int QueueSize = 10 * BatchSize;
    private const int TriesWhenRefused = 3;
    private static readonly TimeSpan RetryPause = TimeSpan.FromSeconds(1);

    private readonly Channel<Verdict> _verdicts = Channel.CreateBounded<Verdict>(
        new BoundedChannelOptions(QueueSize) { SingleReader = true });

    private bool _databaseIsAway;

    /// <summary>Takes a verdict; waits while too many are unwritten, which slows sending down.</summary>
    public ValueTask AddAsync(Verdict verdict, CancellationToken cancellationToken) => _verdicts.Writer.WriteAsync(verdict, cancellationToken);

    /// <summary>No more verdicts will come.</summary>
    public void Complete() => _verdicts.Writer.TryComplete();

    /// <summary>Writes verdicts until <see cref="Complete"/> and the last one, or until aborted.</summary>
    public async Task RunAsync(Action<IReadOnlyList<Verdict>> settled, CancellationToken abort)
    {
        while (await _verdicts.Reader.WaitToReadAsync(abort))
        {
            if (_verdicts.Reader.Count < BatchSize && options.SettleDelay > TimeSpan.Zero)
                await Task.Delay(options.SettleDelay, time, abort);

            var verdicts = new List<Verdict>();
            while (verdicts.Count < BatchSize && _verdicts.Reader.TryRead(out var verdict))
                verdicts.Add(verdict);

            await WriteAsync(verdicts, TriesWhenRefused, abort);
            settled(verdicts);
        }
    }

    /// <summary>Writes verdicts, again and again while the database is away. Each statement may be repeated: deletes go by pair, the rest by fence.</summary>
    private async Task WriteAsync(List<Verdict> verdicts, int triesWhenRefused, CancellationToken abort)
    {
        var batch = SettlementBatch.From(verdicts);
        for (var failures = 0; failures == 0 || await MayRetryAsync(failures < triesWhenRefused, abort); failures++)
        {
            try
            {
                await store.SettleAsync(batch, abort);
                if (failures > 0)
                    logger.DatabaseIsBack(store.DatabaseKey);
                metrics.Settled(batch);
                return;
            }
            catch (Exception exception) when (!abort.IsCancellationRequested)
            {
                if (failures == 0)
                    logger.SettlementFailed(store.DatabaseKey, exception);
                _databaseIsAway = store.Classify(exception) is DatabaseError.Unavailable or DatabaseError.Contention;
            }
        }

        // The database is there and refuses: one verdict must not hold up the others.
        if (verdicts.Count == 1)
        {
            logger.SettlementGivenUp(verdicts[0].Envelope.MessageId);
            return;
        }

        foreach (var verdict in verdicts)
            await WriteAsync([verdict], 1, abort);
    }

    private async Task<bool> MayRetryAsync(bool triesLeft, CancellationToken abort)
    {
        if (!_databaseIsAway && !triesLeft)
            return false;
        await Task.Delay(RetryPause, time, abort);
        return true;
    }
}

/// <summary>Verdicts sorted by what is to be done.</summary>
internal sealed record SettlementBatch(IReadOnlyList<Envelope> Completed, IReadOnlyList<Rescheduling> Rescheduled, IReadOnlyList<Burial> Buried)
{
    public static SettlementBatch From(IReadOnlyList<Verdict> verdicts)
    {
        // In the order of ids, so that instances never wait for each other's rows in a circle.
        var ordered = verdicts.OrderBy(verdict => verdict.Envelope.Id).ToList();
        return new SettlementBatch(
            [.. ordered.Where(verdict => verdict.Completed is not null).Select(verdict => verdict.Completed!)],
            [.. ordered.Where(verdict => verdict.Rescheduled is not null).Select(verdict => verdict.Rescheduled!)],
            [.. ordered.Where(verdict => verdict.Buried is not null).Select(verdict => verdict.Buried!)]);
    }
}
