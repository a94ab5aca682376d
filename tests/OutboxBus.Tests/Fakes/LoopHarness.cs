using OutboxBus.Delivery;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;
using OutboxBus.TestServers;

namespace OutboxBus.Tests.Fakes;

/// <summary>A delivery loop on a real database and a scripted broker, with pauses short enough for tests.</summary>
internal sealed class LoopHarness : IAsyncDisposable
{
    private readonly CancellationTokenSource _stopClaiming = new();
    private readonly CancellationTokenSource _abortSending = new();
    private readonly TimeProvider _time = TimeProvider.System;
    private readonly DeliveryLoop _loop;
    private Task? _running;

    /// <summary>How many sends may be under way: fewer than a test may want to get stuck.</summary>
    public const int Window = 20;

    public LoopHarness(Action<DeliveryOptions>? configure = null, Func<FaultPoint, Envelope?, ValueTask>? onReached = null)
    {
        configure?.Invoke(Options);
        WakeUp = new WakeUp(_time);
        HandOff = new HandOff(Options, _time, WakeUp, Metrics.Metrics);
        _loop = new DeliveryLoop(
            Envelope.DefaultBus,
            new OutboxStore(Database),
            new DatabaseOutage(Database.Key, _time, Logs),
            Sender,
            HandOff,
            WakeUp,
            Options,
            _time,
            Metrics.Metrics,
            new FaultPoints(onReached),
            Logs);
    }

    public SqliteDatabase Database { get; } = new();

    public ScriptedSender Sender { get; } = new();

    public RecordedLogs<DatabaseOutage> Logs { get; } = new();

    public RecordedMetrics Metrics { get; } = new();

    public WakeUp WakeUp { get; }

    public HandOff HandOff { get; }

    public DeliveryOptions Options { get; } = new()
    {
        MaxInFlight = Window,
        PollInterval = TimeSpan.FromMilliseconds(10),
        MinBackoff = TimeSpan.FromMilliseconds(10),
        MaxBackoff = TimeSpan.FromMilliseconds(50),
        SettleDelay = TimeSpan.FromMilliseconds(1),
        MinOutagePause = TimeSpan.FromMilliseconds(10),
        MaxOutagePause = TimeSpan.FromMilliseconds(50),
    };

    public void Start() => _running = Task.Run(() => _loop.RunAsync(_stopClaiming.Token, _abortSending.Token));

    /// <summary>One turn of the loop, without running it.</summary>
    public Task TurnAsync() => _loop.RunOnceAsync(_stopClaiming.Token, _abortSending.Token);

    /// <summary>Hands envelopes over as the process that has just committed them does.</summary>
    public void Offer(CommitCertainty certainty, params Envelope[] envelopes) => HandOff.Offer(envelopes, certainty, _time.GetTimestamp());

    public void StopClaiming() => _stopClaiming.Cancel();

    /// <summary>Asks for the whole stop; the task is the loop's own.</summary>
    public Task StopAsync()
    {
        StopClaiming();
        HandOff.Close();
        return Eventually.CompletesAsync(_running!);
    }

    public void Abort() => _abortSending.Cancel();

    public async ValueTask DisposeAsync()
    {
        if (_running is not null)
        {
            var stopped = StopAsync();
            Abort();
            await stopped;
        }

        Metrics.Dispose();
        Database.Dispose();
        _stopClaiming.Dispose();
        _abortSending.Dispose();
    }
}
