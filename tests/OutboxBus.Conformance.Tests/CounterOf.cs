using System.Diagnostics.Metrics;
using OutboxBus.Diagnostics;

namespace OutboxBus.Conformance.Tests;

// The sum of one of OutboxBus's counters, over all buses of the process, since this was created.
public sealed class CounterOf : IDisposable
{
    private readonly MeterListener _listener = new();
    private long _total;

    public CounterOf(string counter)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == OutboxBusTelemetry.Name && instrument.Name == counter)
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((_, value, _, _) => Interlocked.Add(ref _total, value));
        _listener.Start();
    }

    public long Total => Interlocked.Read(ref _total);

    public void Dispose() => _listener.Dispose();
}
