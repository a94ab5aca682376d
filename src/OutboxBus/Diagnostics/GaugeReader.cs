using Microsoft.Extensions.Hosting;
using OutboxBus.Storage;

namespace OutboxBus.Diagnostics;

/// <summary>Reads from the database what the gauges report, as long as somebody collects them.</summary>
internal sealed class GaugeReader(string bus, IOutboxDatabase database, HealthOptions options, TimeProvider time, OutboxMetrics metrics) : BackgroundService
{
    private readonly OutboxStore _store = new(database);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(options.GaugeInterval, time);
        try
        {
            do
                await ReadAsync(stoppingToken);
            while (await timer.WaitForNextTickAsync(stoppingToken));
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // The host stops.
        }
    }

    internal async Task ReadAsync(CancellationToken cancellationToken)
    {
        if (!metrics.StatusIsCollected)
            return;
        try
        {
            // A driver may be deaf to its token while the network hangs; the stop waits for nobody.
            metrics.Observed(await _store.StatusAsync(bus, options.CountLimit, cancellationToken).WaitAsync(cancellationToken));
        }
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
        {
            // Gauges that fall silent say it all; delivery and purge, which matter more, report what is wrong with the database.
            metrics.Observed(null);
        }
    }
}
