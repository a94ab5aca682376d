using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Publishing;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Publishing;

public sealed class EnvelopeIntakeTests : IDisposable
{
    private static readonly DateTimeOffset Now = new(2026, 7, 1, 12, 0, 0, TimeSpan.FromHours(2));

    private readonly OutboxBusOptions _options = new();
    private readonly RecordedMetrics _metrics = new();
    private readonly SqliteDatabase _database = new();
    private readonly FakeUnitOfWork _unit;

    public EnvelopeIntakeTests() => _unit = new FakeUnitOfWork(_database);

    [Fact]
    public void Envelope_is_appended_for_its_bus_and_counted()
    {
        var envelope = Append();

        _unit.Unsaved.Should().Equal(envelope);
        envelope.Bus.Should().Be("orders");
        _metrics.Sum("outboxbus.captured").Should().Be(1);
    }

    [Fact]
    public void Envelope_without_delay_leaves_its_lease_to_the_database()
    {
        var envelope = Append();

        envelope.VisibleAt.Should().Be(default);
        envelope.DueAt.Should().BeNull();
        envelope.ExpiresAt.Should().BeNull();
    }

    [Fact]
    public void Delayed_envelope_is_held_until_it_is_due()
    {
        var envelope = Append(dueAt: Now.AddMinutes(5));

        envelope.DueAt.Should().Be(Now.UtcDateTime.AddMinutes(5));
        envelope.VisibleAt.Should().Be(Now.UtcDateTime.AddMinutes(5));
        envelope.DueAt!.Value.Kind.Should().Be(DateTimeKind.Utc);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    public void Envelope_due_now_or_in_the_past_is_not_delayed(int minutes)
    {
        var envelope = Append(dueAt: Now.AddMinutes(minutes));

        envelope.DueAt.Should().BeNull();
        envelope.VisibleAt.Should().Be(default);
    }

    [Fact]
    public void Envelope_of_a_process_without_delivery_is_claimable_at_once()
    {
        _options.Delivery.Enabled = false;

        Append().VisibleAt.Should().Be(DateTime.UnixEpoch);
        Append(dueAt: Now.AddMinutes(5)).VisibleAt.Should().Be(Now.UtcDateTime.AddMinutes(5));
    }

    [Fact]
    public void Time_to_live_counts_from_the_publish()
    {
        var envelope = Append(dueAt: Now.AddMinutes(5), timeToLive: TimeSpan.FromMinutes(1));

        envelope.ExpiresAt.Should().Be(Now.UtcDateTime.AddMinutes(1));
    }

    [Fact]
    public void Body_at_the_limit_is_taken_and_beyond_it_refused_with_the_option()
    {
        _options.Publishing.MaxBodyBytes = 3;
        Append(envelope => envelope.Body = new byte[3]);

        this.Invoking(_ => Append(envelope => envelope.Body = new byte[4])).Should().Throw<MessageTooLargeException>()
            .WithMessage("*urn:message:Test:Happened*4 bytes*3 (Publishing.MaxBodyBytes)*");
        _unit.Unsaved.Should().ContainSingle();
        _metrics.Sum("outboxbus.captured").Should().Be(1);
    }

    [Fact]
    public void Headers_and_properties_count_together_in_bytes_not_characters()
    {
        _options.Publishing.MaxHeaderBytes = 6;
        Append(envelope => (envelope.Headers, envelope.Properties) = ("üü", "xx"));

        this.Invoking(_ => Append(envelope => (envelope.Headers, envelope.Properties) = ("üü", "xxx"))).Should().Throw<MessageTooLargeException>()
            .WithMessage("*7 bytes*6 (Publishing.MaxHeaderBytes)*");
        _unit.Unsaved.Should().ContainSingle();
    }

    [Fact]
    public void Errors_never_repeat_content()
    {
        _options.Publishing.MaxHeaderBytes = 6;

        this.Invoking(_ => Append(envelope => envelope.Headers = "secret-canary")).Should().Throw<MessageTooLargeException>()
            .Which.Message.Should().NotContain("canary");
    }

    public void Dispose()
    {
        _metrics.Dispose();
        _database.Dispose();
    }

    private Envelope Append(Action<Envelope>? configure = null, DateTimeOffset? dueAt = null, TimeSpan? timeToLive = null)
    {
        var envelope = SqliteDatabase.NewEnvelope();
        configure?.Invoke(envelope);
        new EnvelopeIntake("orders", _options, new FakeTimeProvider(Now), _metrics.Metrics).Append(_unit, envelope, dueAt, timeToLive);
        return envelope;
    }
}
