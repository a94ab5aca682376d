using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using OutboxBus.Diagnostics;

namespace OutboxBus.Tests.Fakes;

/// <summary>The core's metrics on a meter nobody else writes to, with every measurement kept.</summary>
internal sealed class RecordedMetrics : IMeterFactory
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentQueue<Measured> _measured = new();
    private Meter? _meter;

    public RecordedMetrics(string bus = "default")
    {
        Metrics = new OutboxMetrics(this, bus);
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (ReferenceEquals(instrument.Meter, _meter))
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Keep(instrument, value, tags));
        _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Keep(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Keep(instrument, value, tags));
        _listener.Start();
    }

    public OutboxMetrics Metrics { get; }

    public IReadOnlyList<Measured> All
    {
        get
        {
            _listener.RecordObservableInstruments();
            return [.. _measured];
        }
    }

    public double Sum(string instrument) => _measured.Where(measured => measured.Instrument == instrument).Sum(measured => measured.Value);

    public Meter Create(MeterOptions options) => _meter = new Meter(options);

    public void Dispose()
    {
        _listener.Dispose();
        Metrics.Dispose();
    }

    private void Keep(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        => _measured.Enqueue(new Measured(instrument.Name, instrument.Unit, value, tags.ToArray().ToDictionary()));
}

internal sealed record Measured(string Instrument, string? Unit, double Value, IReadOnlyDictionary<string, object?> Tags);
