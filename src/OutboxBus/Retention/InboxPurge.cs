using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Retention;

/// <summary>Deletes inbox records past retention in small batches, each a transaction of its own, under load too.</summary>
internal sealed class InboxPurge(IOutboxDatabase database, DatabaseOutage outage, InboxOptions options, TimeProvider time, ILogger<InboxPurge> logger) : BackgroundService
{
    private bool _failing;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var store = new OutboxStore(database);
        using var timer = new PeriodicTimer(options.PurgeInterval, time);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken))
                await PurgeAsync(store, stoppingToken);
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // The host stops; what is left is purged after the next start.
        }
    }

    internal async Task PurgeAsync(OutboxStore store, CancellationToken cancellationToken)
    {
        try
        {
            int deleted;
            do
            {
                // A driver may be deaf to its token while the network hangs; the stop waits for nobody.
                deleted = await store.PurgeInboxAsync(options.Retention, options.PurgeBatch, cancellationToken).WaitAsync(cancellationToken);
                if (deleted > 0)
                    logger.Purged(deleted, store.DatabaseKey);
            }
            while (deleted == options.PurgeBatch);
            outage.Answered();
            _failing = false;
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            if (store.IsAway(exception))
            {
                outage.Failed(exception);
                return;
            }

            if (!_failing)
                logger.PurgeFailed(store.DatabaseKey, exception);
            _failing = true;
        }
    }
}
