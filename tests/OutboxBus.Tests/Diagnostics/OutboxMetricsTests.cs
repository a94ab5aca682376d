using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Diagnostics;

public sealed class OutboxMetricsTests : IDisposable
{
    private static readonly DateTimeOffset Now = new(2026, 7, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly RecordedMetrics _recorded = new("orders");

    private OutboxMetrics Metrics => _recorded.Metrics;

    public static TheoryData<string, string> Counters => new()
    {
        { "outboxbus.captured", "{message}" },
        { "outboxbus.unsaved", "{message}" },
        { "outboxbus.claimed", "{message}" },
        { "outboxbus.delivered", "{message}" },
        { "outboxbus.retried", "{message}" },
        { "outboxbus.dead_lettered", "{message}" },
        { "outboxbus.outages", "{outage}" },
        { "outboxbus.consumed", "{message}" },
        { "outboxbus.duplicates", "{message}" },
        { "outboxbus.delivery.latency", "s" },
        { "outboxbus.pending", "{message}" },
        { "outboxbus.pending.age", "s" },
        { "outboxbus.dead_letters", "{message}" },
    };

    [Theory]
    [MemberData(nameof(Counters))]
    public void Instrument_has_its_name_unit_and_bus(string instrument, string unit)
    {
        var envelope = new Envelope { CreatedAt = Now.UtcDateTime };
        Metrics.Captured();
        Metrics.Unsaved(1);
        Metrics.Claimed(1);
        Metrics.Confirmed(envelope, new FakeTimeProvider(Now));
        Metrics.Settled(new SettlementBatch([], [new Rescheduling(envelope, TimeSpan.Zero, 1, 0, "refused"), new Rescheduling(new Envelope(), TimeSpan.Zero, 0, 0, null)], [new Burial(envelope, DeadLetterReason.Expired, 1, null)]));
        Metrics.CircuitOpened();
        Metrics.Consumed(duplicate: false);
        Metrics.Consumed(duplicate: true);
        Metrics.Observed(new OutboxStatus(1, TimeSpan.FromSeconds(1), 1));

        var measured = _recorded.All.Should().ContainSingle(measured => measured.Instrument == instrument).Which;

        measured.Unit.Should().Be(unit);
        measured.Tags.Should().Contain("outboxbus.bus", "orders");
        if (instrument != "outboxbus.delivery.latency")
            measured.Value.Should().Be(1);
    }

    [Fact]
    public void Dead_letters_are_counted_by_reason()
    {
        Burial[] burials = [new(new Envelope(), DeadLetterReason.Refused, 1, null), new(new Envelope(), DeadLetterReason.Corrupt, 1, null)];

        Metrics.Settled(new SettlementBatch([new Envelope()], [], burials));

        _recorded.All.Should().OnlyContain(measured => measured.Instrument == "outboxbus.dead_lettered");
        _recorded.All.Select(measured => measured.Tags["outboxbus.reason"]).Should().Equal("Refused", "Corrupt");
    }

    [Fact]
    public void Latency_runs_from_insert_to_confirm_and_is_never_negative()
    {
        var time = new FakeTimeProvider(Now);

        Metrics.Confirmed(new Envelope { CreatedAt = Now.UtcDateTime.AddSeconds(-3) }, time);
        Metrics.Confirmed(new Envelope { CreatedAt = Now.UtcDateTime.AddSeconds(3) }, time);
        Metrics.Confirmed(new Envelope { CreatedAt = Now.UtcDateTime.AddHours(-1), DueAt = Now.UtcDateTime }, time);

        _recorded.All.Where(measured => measured.Instrument == "outboxbus.delivery.latency").Select(measured => measured.Value).Should().Equal(3, 0);
        _recorded.Sum("outboxbus.delivered").Should().Be(3);
    }

    public void Dispose() => _recorded.Dispose();
}
