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

    public static TheoryData<string, string> Documented
    {
        get
        {
            // Rows such as: | `outboxbus.captured` | counter | `{message}` | ... |
            var rows = from line in File.ReadLines(Path.Combine(AppContext.BaseDirectory, "telemetry.md"))
                       let cells = line.Split('|', StringSplitOptions.TrimEntries)
                       where cells.Length > 3 && cells[1].StartsWith("`outboxbus.", StringComparison.Ordinal) && cells[2] is "counter" or "histogram" or "gauge"
                       select (Instrument: cells[1].Trim('`'), Unit: cells[3].Trim('`'));
            var data = new TheoryData<string, string>();
            foreach (var (instrument, unit) in rows)
                data.Add(instrument, unit);
            return data;
        }
    }

    [Fact]
    public void Every_instrument_is_documented_and_every_documented_one_exists()
    {
        MoveAll();

        _recorded.All.Select(measured => measured.Instrument).Distinct().Should().BeEquivalentTo(Documented.Select(row => (string)row[0]));
    }

    [Theory]
    [MemberData(nameof(Documented))]
    public void Instrument_has_its_name_unit_and_bus(string instrument, string unit)
    {
        MoveAll();

        var measured = _recorded.All.Should().ContainSingle(measured => measured.Instrument == instrument).Which;

        measured.Unit.Should().Be(unit);
        measured.Tags.Should().Contain("outboxbus.bus", "orders");
        measured.Value.Should().Be(1);
    }

    [Fact]
    public void Dead_letters_are_counted_by_reason()
    {
        Metrics.DeadLettered(DeadLetterReason.Refused);
        Metrics.DeadLettered(DeadLetterReason.Corrupt);

        _recorded.All.Where(measured => measured.Instrument == "outboxbus.dead_lettered").Select(measured => measured.Tags["outboxbus.reason"]).Should().Equal("Refused", "Corrupt");
    }

    [Fact]
    public void Latency_of_what_was_handed_off_runs_from_commit_to_confirm_on_the_clock_of_the_process()
    {
        var time = new FakeTimeProvider(Now);
        var leased = new LeasedEnvelope(new Envelope { CreatedAt = Now.UtcDateTime.AddHours(-1) }, 0, time.GetTimestamp());
        time.Advance(TimeSpan.FromSeconds(2));

        Metrics.Confirmed(leased, time);

        var latency = _recorded.All.Single(measured => measured.Instrument == "outboxbus.delivery.latency");
        latency.Value.Should().Be(2);
        latency.Tags.Should().Contain("outboxbus.source", "hand_off");
    }

    [Fact]
    public void Latency_of_what_was_claimed_runs_from_insert_to_confirm_and_is_never_negative()
    {
        var time = new FakeTimeProvider(Now);

        Metrics.Confirmed(Claimed(new Envelope { CreatedAt = Now.UtcDateTime.AddSeconds(-3) }), time);
        Metrics.Confirmed(Claimed(new Envelope { CreatedAt = Now.UtcDateTime.AddSeconds(3) }), time);
        Metrics.Confirmed(Claimed(new Envelope { CreatedAt = Now.UtcDateTime.AddHours(-1), DueAt = Now.UtcDateTime }), time);

        var latencies = _recorded.All.Where(measured => measured.Instrument == "outboxbus.delivery.latency").ToList();
        latencies.Select(measured => measured.Value).Should().Equal(3, 0);
        latencies.Should().OnlyContain(measured => Equals(measured.Tags["outboxbus.source"], "claim"));
        _recorded.Sum("outboxbus.delivered").Should().Be(3);
    }

    [Fact]
    public void Circuit_shows_as_long_as_it_is_open()
    {
        Circuit().Should().BeNull("nothing has been sent");
        Metrics.CircuitOpened();
        Circuit().Should().Be(1);
        Metrics.Confirmed(Claimed(new Envelope()), new FakeTimeProvider(Now));
        Circuit().Should().Be(0);
    }

    [Fact]
    public void Status_that_is_unknown_is_not_reported()
    {
        Metrics.Observed(new OutboxStatus(1, TimeSpan.FromSeconds(1), 1));
        Metrics.Observed(null);

        _recorded.All.Should().BeEmpty();
    }

    public void Dispose() => _recorded.Dispose();

    private double? Circuit() => _recorded.All.LastOrDefault(measured => measured.Instrument == "outboxbus.circuit.open")?.Value;

    /// <summary>Each instrument once, by 1.</summary>
    private void MoveAll()
    {
        var time = new FakeTimeProvider(Now);
        var envelope = new Envelope { CreatedAt = Now.UtcDateTime.AddSeconds(-1) };
        Metrics.Captured();
        Metrics.Unsaved(1);
        Metrics.Bypassed();
        Metrics.HandOffOverflowed(1);
        Metrics.Claimed(1);
        Metrics.Confirmed(Claimed(envelope), time);
        Metrics.Retried(1);
        Metrics.DeadLettered(DeadLetterReason.Expired);
        Metrics.CircuitOpened();
        Metrics.Consumed(duplicate: false);
        Metrics.Consumed(duplicate: true);
        Metrics.Observed(new OutboxStatus(1, TimeSpan.FromSeconds(1), 1));
    }

    private static LeasedEnvelope Claimed(Envelope envelope) => new(envelope, 0);
}
