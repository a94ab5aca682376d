using System.Diagnostics;
using System.Diagnostics.Metrics;
using OutboxBus.Delivery;
using OutboxBus.Storage;

namespace OutboxBus.Diagnostics;

/// <summary>The names under which OutboxBus reports metrics and traces.</summary>
public static class OutboxBusTelemetry
{
    /// <summary>The name of the meter and of the activity source.</summary>
    public const string Name = "OutboxBus";

    internal static readonly ActivitySource Activities = new(Name);
}

/// <summary>The instruments of the meter <c>OutboxBus</c>, each tagged with the bus.</summary>
internal sealed class OutboxMetrics : IDisposable
{
    private const string Source = "outboxbus.source";
    private const int Unknown = -1;

    private readonly Meter _meter;
    private readonly KeyValuePair<string, object?> _bus;
    private readonly Counter<long> _captured;
    private readonly Counter<long> _unsaved;
    private readonly Counter<long> _bypassed;
    private readonly Counter<long> _handOffOverflow;
    private readonly Counter<long> _claimed;
    private readonly Counter<long> _delivered;
    private readonly Counter<long> _retried;
    private readonly Counter<long> _deadLettered;
    private readonly Counter<long> _outages;
    private readonly Counter<long> _consumed;
    private readonly Counter<long> _duplicates;
    private readonly Histogram<double> _latency;
    private readonly ObservableGauge<long> _pending;
    private readonly ObservableGauge<double> _pendingAge;
    private readonly ObservableGauge<long> _deadLetters;
    private volatile int _circuitOpen = Unknown;
    private OutboxStatus? _status;

    public OutboxMetrics(IMeterFactory? meters, string bus)
    {
        // Hosts have a factory; a bare service collection may not.
        _meter = meters?.Create(OutboxBusTelemetry.Name) ?? new Meter(OutboxBusTelemetry.Name);
        _bus = new("outboxbus.bus", bus);
        _captured = _meter.CreateCounter<long>("outboxbus.captured", "{message}", "Messages taken into a unit of work.");
        _unsaved = _meter.CreateCounter<long>("outboxbus.unsaved", "{message}", "Captured messages whose scope ended before they were saved.");
        _bypassed = _meter.CreateCounter<long>("outboxbus.bypassed", "{message}", "Messages sent through the bus itself by code that has a unit of work.");
        _handOffOverflow = _meter.CreateCounter<long>("outboxbus.hand_off.overflow", "{message}", "Just-committed messages that found no room in memory and wait to be claimed.");
        _claimed = _meter.CreateCounter<long>("outboxbus.claimed", "{message}", "Rows claimed: retries, schedules, and what a hand-off did not cover.");
        _delivered = _meter.CreateCounter<long>("outboxbus.delivered", "{message}", "Messages confirmed by the broker.");
        _retried = _meter.CreateCounter<long>("outboxbus.retried", "{message}", "Sends to be repeated.");
        _deadLettered = _meter.CreateCounter<long>("outboxbus.dead_lettered", "{message}", "Messages given up, by reason.");
        _outages = _meter.CreateCounter<long>("outboxbus.outages", "{outage}", "Times the transport was found to be down.");
        _consumed = _meter.CreateCounter<long>("outboxbus.consumed", "{message}", "Messages whose handler's transaction committed.");
        _duplicates = _meter.CreateCounter<long>("outboxbus.duplicates", "{message}", "Deliveries recognised by the inbox as consumed before.");
        _latency = _meter.CreateHistogram(
            "outboxbus.delivery.latency",
            "s",
            "From commit to the broker's confirm. Source hand_off: by the process's clock; source claim: from the insert, by the clocks of database and process.",
            advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300] });
        _pending = _meter.CreateObservableGauge("outboxbus.pending", () => Observe(status => status.Pending), "{message}", "Messages due for sending, counted until a limit of Health is exceeded.");
        _pendingAge = _meter.CreateObservableGauge("outboxbus.pending.age", () => Observe(status => (status.OldestPending ?? TimeSpan.Zero).TotalSeconds), "s", "Time since the oldest of them became due.");
        _deadLetters = _meter.CreateObservableGauge("outboxbus.dead_letters", () => Observe(status => status.DeadLetters), "{message}", "Dead letters, counted until a limit of Health is exceeded.");
        _meter.CreateObservableGauge("outboxbus.circuit.open", ObserveCircuit, "1", "1 while the broker is believed to be down, else 0.");
    }

    public void Captured() => _captured.Add(1, _bus);

    public void Unsaved(int count) => _unsaved.Add(count, _bus);

    public void Bypassed() => _bypassed.Add(1, _bus);

    public void HandOffOverflowed(int count) => _handOffOverflow.Add(count, _bus);

    public void Claimed(int count) => _claimed.Add(count, _bus);

    public void Confirmed(LeasedEnvelope leased, TimeProvider time)
    {
        _delivered.Add(1, _bus);
        // Each confirm closes the circuit.
        _circuitOpen = 0;
        if (!_latency.Enabled)
            return;
        if (leased.Committed is { } committed)
            _latency.Record(time.GetElapsedTime(committed).TotalSeconds, _bus, new(Source, "hand_off"));
        else if (leased.Envelope.DueAt is null)
            // A delayed message is late on purpose.
            _latency.Record(Math.Max(0, (time.GetUtcNow().UtcDateTime - leased.Envelope.CreatedAt).TotalSeconds), _bus, new(Source, "claim"));
    }

    public void Retried(int count)
    {
        if (count > 0)
            _retried.Add(count, _bus);
    }

    public void DeadLettered(DeadLetterReason reason) => _deadLettered.Add(1, _bus, new("outboxbus.reason", reason.ToString()));

    public void CircuitOpened()
    {
        _circuitOpen = 1;
        _outages.Add(1, _bus);
    }

    public void Consumed(bool duplicate) => (duplicate ? _duplicates : _consumed).Add(1, _bus);

    /// <summary>Whether anybody collects what <see cref="Observed"/> tells.</summary>
    public bool StatusIsCollected => _pending.Enabled || _pendingAge.Enabled || _deadLetters.Enabled;

    /// <summary>How the outbox stands; null: unknown, so that the gauges fall silent instead of repeating what was.</summary>
    public void Observed(OutboxStatus? status) => _status = status;

    public void Dispose() => _meter.Dispose();

    private Measurement<int>[] ObserveCircuit() => _circuitOpen is var open and not Unknown ? [new(open, _bus)] : [];

    private Measurement<T>[] Observe<T>(Func<OutboxStatus, T> read)
        where T : struct
        => _status is { } status ? [new(read(status), _bus)] : [];
}
