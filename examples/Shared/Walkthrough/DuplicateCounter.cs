using System.Diagnostics.Metrics;
using OutboxBus.Diagnostics;

namespace Examples.Walkthrough;

/// <summary>Listens to the metric that counts deliveries the inbox has recognised as duplicates.</summary>
public sealed class DuplicateCounter : IDisposable
{
    private readonly MeterListener _listener = new();
    private long _count;

    public DuplicateCounter()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == OutboxBusTelemetry.Name && instrument.Name == "outboxbus.duplicates")
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((_, measurement, _, _) => Interlocked.Add(ref _count, measurement));
        _listener.Start();
    }

    public long Count => Interlocked.Read(ref _count);

    public void Dispose() => _listener.Dispose();
}
