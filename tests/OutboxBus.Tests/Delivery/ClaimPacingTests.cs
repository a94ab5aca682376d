using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class ClaimPacingTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly ClaimPacing _pacing;

    public ClaimPacingTests() => _pacing = new ClaimPacing(new DeliveryOptions { PollInterval = TimeSpan.FromSeconds(10) }, _time, new MiddleRandom());

    [Fact]
    public void First_claim_is_due_at_once()
    {
        _pacing.IsDue.Should().BeTrue();
        _pacing.UntilDue.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public void Full_batch_is_followed_by_another_at_once()
    {
        _pacing.Claimed(500, 500);

        _pacing.IsDue.Should().BeTrue();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(499)]
    public void Anything_less_is_followed_after_the_poll_interval(int count)
    {
        _pacing.Claimed(count, 500);

        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(10));
        _time.Advance(TimeSpan.FromSeconds(10) - TimeSpan.FromTicks(1));
        _pacing.IsDue.Should().BeFalse();
        _time.Advance(TimeSpan.FromTicks(1));
        _pacing.IsDue.Should().BeTrue();
    }

    [Fact]
    public void Failed_claim_waits_for_the_pause()
    {
        _pacing.Failed(TimeSpan.FromSeconds(3));

        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(3));
    }

    [Fact]
    public void Expected_row_brings_the_next_claim_forward_but_never_back()
    {
        _pacing.Claimed(0, 500);

        _pacing.Expect(TimeSpan.FromSeconds(2));
        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(2));

        _pacing.Expect(TimeSpan.FromSeconds(5));
        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(2));
    }

    [Fact]
    public void Database_that_is_away_is_left_alone_whatever_is_expected()
    {
        _pacing.Failed(TimeSpan.FromSeconds(3));

        _pacing.Expect(TimeSpan.FromSeconds(1));

        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(3));
    }

    [Fact]
    public void Database_that_seems_to_be_back_is_asked_at_once()
    {
        _pacing.Failed(TimeSpan.FromSeconds(30));

        _pacing.Resume();
        _pacing.IsDue.Should().BeTrue();

        _pacing.Claimed(0, 500);
        _pacing.Expect(TimeSpan.FromSeconds(1));
        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Rows_that_become_due_one_after_the_other_are_claimed_together_and_not_too_early()
    {
        _pacing.Claimed(0, 500);
        _time.Advance(TimeSpan.FromMilliseconds(7));
        for (var row = 1; row <= 10; row++)
            _pacing.Expect(TimeSpan.FromMilliseconds(row));

        _pacing.UntilDue.Should().BeGreaterThanOrEqualTo(TimeSpan.FromMilliseconds(10)).And.BeLessThanOrEqualTo(TimeSpan.FromMilliseconds(20));
        _time.Advance(_pacing.UntilDue);
        _pacing.Claiming();
        _pacing.Claimed(10, 500);
        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public void Expected_row_does_not_delay_a_claim_that_is_due()
    {
        _pacing.Expect(TimeSpan.FromSeconds(5));

        _pacing.IsDue.Should().BeTrue();
    }

    [Fact]
    public void Claim_for_one_expected_row_does_not_forget_a_later_one()
    {
        _pacing.Claimed(0, 500);
        _pacing.Expect(TimeSpan.FromSeconds(1));
        _pacing.Expect(TimeSpan.FromSeconds(4));

        _time.Advance(TimeSpan.FromSeconds(1));
        _pacing.Claiming();
        _pacing.Claimed(1, 500);

        _pacing.UntilDue.Should().Be(TimeSpan.FromSeconds(3));
    }
}

public sealed class JitterTests
{
    [Theory]
    [InlineData(0, 8)]
    [InlineData(0.5, 10)]
    [InlineData(1, 12)]
    public void Time_varies_by_a_fifth_either_way(double share, double seconds)
        => Jitter.Apply(TimeSpan.FromSeconds(10), new FixedRandom(share)).Should().Be(TimeSpan.FromSeconds(seconds));
}
