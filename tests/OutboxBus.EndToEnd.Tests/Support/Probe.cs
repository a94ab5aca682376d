using System.Collections.Concurrent;
using OutboxBus.TestServers;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>What consumers have seen, in one application.</summary>
public sealed class Probe
{
    private readonly ConcurrentQueue<Sighting> _sightings = new();

    public IReadOnlyList<Sighting> All => [.. _sightings];

    public IReadOnlyList<Sighting> Of(string consumer) => [.. _sightings.Where(sighting => sighting.Consumer == consumer)];

    public void Saw(string consumer, object? what = null) => _sightings.Enqueue(new Sighting(consumer, what));

    public Task SeesAsync(string consumer, int times = 1)
        => Eventually.BecomesAsync(() => Task.FromResult(Of(consumer).Count), count => count >= times, $"{consumer} has run {times} time(s)");
}

public sealed record Sighting(string Consumer, object? What);
