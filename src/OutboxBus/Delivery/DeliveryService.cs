using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>
/// Runs delivery in a host. It begins when the other services have started, so that the bus is there, and stops in two
/// phases: first nothing more is claimed, then what is handed off and in flight is finished.
/// </summary>
internal sealed class DeliveryService(
    string bus,
    IOutboxDatabase database,
    DatabaseOutage outage,
    IEnvelopeSender sender,
    HandOff handOff,
    WakeUp wakeUp,
    DeliveryOptions options,
    TimeProvider time,
    OutboxMetrics metrics,
    FaultPoints faults,
    ILogger<DeliveryService> logger) : IHostedLifecycleService, IDisposable
{
    private readonly CancellationTokenSource _stopClaiming = new();
    private readonly CancellationTokenSource _abortSending = new();
    private Task? _running;

    /// <summary>Checks the tables before anything is consumed or sent. A database that cannot be asked is waited for, not checked.</summary>
    public async Task StartingAsync(CancellationToken cancellationToken)
    {
        var store = new OutboxStore(database);
        try
        {
            await store.CheckSchemaAsync(cancellationToken);
        }
        catch (Exception exception) when (exception is not OutboxBusException && !cancellationToken.IsCancellationRequested
            && store.Classify(exception) is DatabaseError.Unavailable or DatabaseError.Contention)
        {
            logger.SchemaNotChecked(database.Key, exception);
        }
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken)
    {
        if (!options.Enabled)
        {
            handOff.Close();
            logger.DeliveryIsOff(bus);
            return Task.CompletedTask;
        }

        var loop = new DeliveryLoop(bus, new OutboxStore(database), outage, sender, handOff, wakeUp, options, time, metrics, faults, logger);
        // Nothing of the starting context may leak into deliveries: no activity, no ambient transaction.
        using (ExecutionContext.SuppressFlow())
            _running = RunAsync(loop);
        logger.DeliveryStarted(bus, database.Key);
        return Task.CompletedTask;
    }

    public async Task StoppingAsync(CancellationToken cancellationToken) => await _stopClaiming.CancelAsync();

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        handOff.Close();
        if (_running is null)
            return;
        await _stopClaiming.CancelAsync();
        await using var limit = time.CreateTimer(_ => _abortSending.Cancel(), null, options.StopTimeout, Timeout.InfiniteTimeSpan);
        await using var hostGivesUp = cancellationToken.Register(_abortSending.Cancel);
        await _running;
        logger.DeliveryStopped(bus);
    }

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose()
    {
        // A host that is disposed without a stop must not leave the loop behind.
        _stopClaiming.Cancel();
        _abortSending.Cancel();
        _stopClaiming.Dispose();
        _abortSending.Dispose();
    }

    private async Task RunAsync(DeliveryLoop loop)
    {
        // Leave the host's start-up before the first claim.
        await Task.Yield();
        await loop.RunAsync(_stopClaiming.Token, _abortSending.Token);
    }
}
