using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Diagnostics;

public sealed class GaugeReaderTests : IDisposable
{
    private readonly FakeTimeProvider _time = new();
    private readonly SqliteDatabase _database = new();
    private readonly RecordedMetrics _metrics = new();

    [Fact]
    public async Task Gauges_follow_the_database_without_a_health_check()
    {
        using var reader = NewReader();
        await reader.StartAsync(CancellationToken.None);
        await Eventually.BecomesAsync(() => Pending() == 0, "the empty outbox is read at once");

        _database.AddDue();
        await Eventually.BecomesAsync(
            () =>
            {
                _time.Advance(TimeSpan.FromSeconds(15));
                return Pending() == 1;
            },
            "the next reading sees the message");

        await reader.StopAsync(CancellationToken.None);
    }

    [Fact]
    public async Task Nothing_is_read_while_nobody_collects()
    {
        using var metrics = new OutboxMetrics(null, "alone");
        var database = new WatchedDatabase(_database);
        using var reader = new GaugeReader("default", database, new HealthOptions(), _time, metrics);

        await reader.ReadAsync(CancellationToken.None);

        database.Opened.Should().BeFalse();
    }

    [Fact]
    public async Task Gauges_fall_silent_when_the_database_cannot_be_asked()
    {
        using var reader = NewReader();
        await reader.ReadAsync(CancellationToken.None);
        Pending().Should().Be(0);

        _database.Down = new IOException("The server is down.");
        await reader.ReadAsync(CancellationToken.None);

        Pending().Should().BeNull();
    }

    [Fact]
    public async Task Stop_does_not_wait_for_a_driver_that_is_deaf_to_its_token()
    {
        using var reader = NewReader();
        _ = Pending();
        _database.Hangs = true;
        await reader.StartAsync(CancellationToken.None);
        await Eventually.BecomesAsync(() => _database.Hanging > 0, "the driver hangs");

        await reader.StopAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(10));
    }

    public void Dispose()
    {
        _metrics.Dispose();
        _database.Dispose();
    }

    private GaugeReader NewReader() => new("default", _database, new HealthOptions(), _time, _metrics.Metrics);

    private double? Pending()
    {
        var before = _metrics.All.Count;
        return _metrics.All.Skip(before).SingleOrDefault(measured => measured.Instrument == "outboxbus.pending")?.Value;
    }

    private sealed class WatchedDatabase(IOutboxDatabase database) : IOutboxDatabase
    {
        public bool Opened { get; private set; }

        public string Key => database.Key;

        public SqlDialect Dialect => database.Dialect;

        public Task<IOutboxConnection> OpenAsync(CancellationToken cancellationToken)
        {
            Opened = true;
            return database.OpenAsync(cancellationToken);
        }
    }
}
