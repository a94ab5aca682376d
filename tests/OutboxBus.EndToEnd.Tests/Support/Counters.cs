using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Diagnostics;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>What one application's meter has counted since; of a histogram, how many values it got.</summary>
internal sealed class Counters : IDisposable
{
    private readonly ConcurrentDictionary<string, long> _counts = new();
    private readonly MeterListener _listener = new();

    public Counters(App app)
    {
        var factory = app.Services.GetRequiredService<IMeterFactory>();
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            // Of this application only: others may run in this process.
            if (instrument.Meter.Name == OutboxBusTelemetry.Name && instrument.Meter.Scope == factory)
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<int>((instrument, value, _, _) => _counts[instrument.Name] = value);
        _listener.SetMeasurementEventCallback<long>((instrument, value, _, _) =>
        {
            if (instrument.IsObservable)
                _counts[instrument.Name] = value;
            else
                _counts.AddOrUpdate(instrument.Name, value, (_, sum) => sum + value);
        });
        _listener.SetMeasurementEventCallback<double>((instrument, _, _, _) => _counts.AddOrUpdate(instrument.Name, 1, (_, count) => count + 1));
        _listener.Start();
    }

    public long this[string instrument] => _counts.GetValueOrDefault(instrument);

    /// <summary>The present value of a gauge; null: it reports nothing.</summary>
    public long? Gauge(string instrument)
    {
        _counts.TryRemove(instrument, out _);
        _listener.RecordObservableInstruments();
        return _counts.TryGetValue(instrument, out var value) ? value : null;
    }

    public void Dispose() => _listener.Dispose();
}
