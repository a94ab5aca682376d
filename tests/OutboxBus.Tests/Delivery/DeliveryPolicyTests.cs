using FluentAssertions;
using OutboxBus.Delivery;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class DeliveryPolicyTests
{
    private static readonly DateTimeOffset Now = new(2026, 7, 1, 12, 0, 0, TimeSpan.Zero);
    private static readonly TimeSpan OutagePause = TimeSpan.FromSeconds(7);
    private static readonly InvalidOperationException Error = new("No.");

    private readonly DeliveryOptions _options = new() { MaxAttempts = 3, MinBackoff = TimeSpan.FromSeconds(1), MaxBackoff = TimeSpan.FromSeconds(60) };

    [Theory]
    [InlineData(0, false, nameof(Treatment.Send))]
    [InlineData(1, false, nameof(Treatment.Send))]
    [InlineData(2, false, nameof(Treatment.Send))]
    [InlineData(2, true, nameof(Treatment.SendApart))]
    [InlineData(3, false, nameof(Treatment.SendAlone))]
    [InlineData(100, true, nameof(Treatment.SendAlone))]
    [InlineData(1001, false, nameof(Treatment.SendAlone))]
    [InlineData(2999, false, nameof(Treatment.SendAlone))]
    [InlineData(3001, false, nameof(Treatment.BuryNoOutcome))]
    public void Row_claimed_again_and_again_is_sent_alone_and_then_given_up(int claims, bool suspect, string treatment)
        => DeliveryPolicy.Triage(new Envelope { ClaimCount = claims }, suspect, Now).ToString().Should().Be(treatment);

    [Theory]
    [InlineData(3, 1000)]
    [InlineData(999, 1000)]
    [InlineData(1001, 2000)]
    [InlineData(1500, 2000)]
    [InlineData(2001, 3000)]
    public void Lone_send_is_noted_whatever_claims_came_to_nothing_before(int claims, int noted)
        => DeliveryPolicy.WithLoneSend(claims).Should().Be(noted);

    [Theory]
    [InlineData(-1, nameof(Treatment.BuryExpired))]
    [InlineData(0, nameof(Treatment.BuryExpired))]
    [InlineData(1, nameof(Treatment.Send))]
    public void Row_past_its_time_to_live_is_given_up(int ticks, string treatment)
        => DeliveryPolicy.Triage(new Envelope { ExpiresAt = Now.UtcDateTime.AddTicks(ticks) }, false, Now).ToString().Should().Be(treatment);

    [Fact]
    public void Expiry_is_the_reason_even_of_a_row_without_outcome()
        => DeliveryPolicy.Triage(new Envelope { ExpiresAt = Now.UtcDateTime, ClaimCount = 4 }, true, Now).Should().Be(Treatment.BuryExpired);

    [Fact]
    public void Confirmed_row_is_completed()
    {
        var envelope = new Envelope();

        Judge(envelope, SendOutcome.Confirmed).Should().Be(Verdict.Complete(envelope));
    }

    [Fact]
    public void Refusal_costs_an_attempt_and_clears_the_claims()
    {
        var later = Judge(new Envelope { Attempts = 1, ClaimCount = 2 }, SendOutcome.Refused(Error)).Rescheduled!;

        later.Attempts.Should().Be(2);
        later.ClaimCount.Should().Be(0);
        later.Delay.Should().Be(TimeSpan.FromSeconds(2));
        later.Error.Should().Be("System.InvalidOperationException: No.");
    }

    [Fact]
    public void Dead_letter_comes_exactly_at_the_last_attempt()
    {
        Judge(new Envelope { Attempts = 1 }, SendOutcome.Refused(Error)).Buried.Should().BeNull();

        var burial = Judge(new Envelope { Attempts = 2 }, SendOutcome.Refused(Error)).Buried!;

        burial.Reason.Should().Be(DeadLetterReason.Refused);
        burial.Attempts.Should().Be(3);
        burial.Error.Should().Contain("No.");
    }

    [Fact]
    public void Transport_failure_costs_no_attempt()
    {
        var later = Judge(new Envelope { Attempts = 2, ClaimCount = 1 }, SendOutcome.TransportFailed(Error)).Rescheduled!;

        later.Attempts.Should().Be(2);
        later.ClaimCount.Should().Be(0);
        later.Delay.Should().Be(OutagePause);
    }

    [Fact]
    public void Transport_failure_of_the_message_itself_is_like_a_refusal()
    {
        Judge(new Envelope { Attempts = 1 }, SendOutcome.TransportFailed(Error), charged: true).Rescheduled!.Attempts.Should().Be(2);
        Judge(new Envelope { Attempts = 2 }, SendOutcome.TransportFailed(Error), charged: true).Buried!.Reason.Should().Be(DeadLetterReason.Refused);
    }

    [Fact]
    public void Unknown_type_waits_and_costs_nothing()
    {
        var later = Judge(new Envelope { Attempts = 2, ClaimCount = 3, CreatedAt = Now.UtcDateTime }, SendOutcome.UnknownType(Error)).Rescheduled!;

        later.Attempts.Should().Be(2);
        later.ClaimCount.Should().Be(0);
        later.Delay.Should().Be(TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData(-5, 30)]
    [InlineData(0, 30)]
    [InlineData(31, 31)]
    [InlineData(59, 59)]
    [InlineData(61, 60)]
    [InlineData(100_000, 60)]
    public void Message_of_an_unknown_type_waits_as_long_again_as_it_is_due_from_a_lease_to_the_longest_backoff(int secondsDue, int seconds)
    {
        var due = Now.UtcDateTime.AddSeconds(-secondsDue);

        Judge(new Envelope { CreatedAt = due }, SendOutcome.UnknownType(Error)).Rescheduled!.Delay.Should().Be(TimeSpan.FromSeconds(seconds));
        Judge(new Envelope { CreatedAt = Now.UtcDateTime.AddDays(-9), DueAt = due }, SendOutcome.UnknownType(Error)).Rescheduled!.Delay.Should().Be(TimeSpan.FromSeconds(seconds));
    }

    [Fact]
    public void Message_of_an_unknown_type_waits_for_a_lease_even_if_backoffs_are_shorter()
    {
        _options.MaxBackoff = TimeSpan.FromSeconds(2);

        Judge(new Envelope { CreatedAt = Now.UtcDateTime.AddDays(-9) }, SendOutcome.UnknownType(Error)).Rescheduled!.Delay.Should().Be(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public void Message_of_an_unknown_type_is_not_awaited_by_the_process_that_does_not_know_it()
    {
        var unknown = Judge(new Envelope { CreatedAt = Now.UtcDateTime }, SendOutcome.UnknownType(Error));
        var refused = Judge(new Envelope(), SendOutcome.Refused(Error));

        // It would claim the row the moment it is due, and so before anybody else, again and again.
        SettlementBatch.From([unknown, refused]).Awaited.Should().Equal(refused.Rescheduled!.Delay);
    }

    [Fact]
    public void Corrupt_row_is_given_up_at_once()
    {
        var burial = Judge(new Envelope(), SendOutcome.Corrupt(Error)).Buried!;

        burial.Reason.Should().Be(DeadLetterReason.Corrupt);
        burial.Attempts.Should().Be(0);
    }

    [Fact]
    public void Long_errors_are_cut()
        => Judge(new Envelope(), SendOutcome.Refused(new InvalidOperationException(new string('x', 5000)))).Rescheduled!.Error.Should().HaveLength(1000);

    [Theory]
    [InlineData(1, 0)]
    [InlineData(3, 2)]
    [InlineData(0, 0)]
    public void Row_not_sent_after_all_does_not_count_the_claim(int claims, int left)
    {
        var later = DeliveryPolicy.PutBack(new Envelope { ClaimCount = claims, Attempts = 5 }, OutagePause).Rescheduled!;

        later.ClaimCount.Should().Be(left);
        later.Attempts.Should().Be(5);
        later.Delay.Should().Be(OutagePause);
        later.Error.Should().BeNull();
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 2)]
    [InlineData(3, 4)]
    [InlineData(6, 32)]
    [InlineData(7, 60)]
    [InlineData(1000, 60)]
    [InlineData(int.MaxValue, 60)]
    public void Backoff_doubles_up_to_the_longest(int attempts, int seconds)
        => DeliveryPolicy.Backoff(attempts, _options, new MiddleRandom()).Should().Be(TimeSpan.FromSeconds(seconds));

    [Fact]
    public void Backoff_stays_within_its_bounds_and_jitter()
    {
        DeliveryPolicy.Backoff(1, _options, new FixedRandom(0)).Should().Be(TimeSpan.FromSeconds(0.8));
        DeliveryPolicy.Backoff(1000, _options, new FixedRandom(1)).Should().Be(TimeSpan.FromSeconds(72));
    }

    private Verdict Judge(Envelope envelope, SendOutcome outcome, bool charged = false)
        => DeliveryPolicy.Judge(envelope, outcome, charged, OutagePause, Now, _options, new MiddleRandom());
}
