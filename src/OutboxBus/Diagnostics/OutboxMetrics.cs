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
    private readonly Meter _meter;
    private readonly KeyValuePair<string, object?> _bus;
    private readonly Counter<long> _captured;
    private readonly Counter<long> _unsaved;
    private readonly Counter<long> _claimed;
    private readonly Counter<long> _delivered;
    private readonly Counter<long> _retried;
    private readonly Counter<long> _deadLettered;
    private readonly Counter<long> _outages;
    private readonly Counter<long> _consumed;
    private readonly Counter<long> _duplicates;
    private readonly Histogram<double> _latency;
    private OutboxStatus? _status;

    public OutboxMetrics(IMeterFactory? meters, string bus)
    {
        // Hosts have a factory; a bare service collection may not.
        _meter = meters?.Create(OutboxBusTelemetry.Name) ?? new Meter(OutboxBusTelemetry.Name);
        _bus = new("outboxbus.bus", bus);
        _captured = _meter.CreateCounter<long>("outboxbus.captured", "{message}", "Messages taken into a unit of work.");
        _unsaved = _meter.CreateCounter<long>("outboxbus.unsaved", "{message}", "Captured messages whose scope ended before they were saved.");
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
            "From the insert of a message to the broker's confirm, by the clocks of database and process.",
            advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300] });
        _meter.CreateObservableGauge("outboxbus.pending", () => Observe(status => status.Pending), "{message}", "Messages due for sending, at the last health check.");
        _meter.CreateObservableGauge("outboxbus.pending.age", () => Observe(status => (status.OldestPending ?? TimeSpan.Zero).TotalSeconds), "s", "Time since the oldest of them became due.");
        _meter.CreateObservableGauge("outboxbus.dead_letters", () => Observe(status => status.DeadLetters), "{message}", "Dead letters, at the last health check.");
    }

    public void Captured() => _captured.Add(1, _bus);

    public void Unsaved(int count) => _unsaved.Add(count, _bus);

    public void Claimed(int count) => _claimed.Add(count, _bus);

    public void Confirmed(Envelope envelope, TimeProvider time)
    {
        _delivered.Add(1, _bus);
        // A delayed message is late on purpose.
        if (_latency.Enabled && envelope.DueAt is null)
            _latency.Record(Math.Max(0, (time.GetUtcNow().UtcDateTime - envelope.CreatedAt).TotalSeconds), _bus);
    }

    public void Settled(SettlementBatch batch)
    {
        // Those without an error were put back unsent.
        var retried = batch.Rescheduled.Count(rescheduling => rescheduling.Error is not null);
        if (retried > 0)
            _retried.Add(retried, _bus);
        foreach (var burial in batch.Buried)
            _deadLettered.Add(1, _bus, new("outboxbus.reason", burial.Reason.ToString()));
    }

    public void CircuitOpened() => _outages.Add(1, _bus);

    public void Consumed(bool duplicate) => (duplicate ? _duplicates : _consumed).Add(1, _bus);

    public void Observed(OutboxStatus status) => _status = status;

    public void Dispose() => _meter.Dispose();

    private Measurement<T>[] Observe<T>(Func<OutboxStatus, T> read)
        where T : struct
        => _status is { } status ? [new(read(status), _bus)] : [];
}
