using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class ClaimRangeTests
{
    private const int Limit = 500;

    private readonly FakeTimeProvider _time = new();
    private readonly ClaimRange _range;

    public ClaimRangeTests() => _range = new ClaimRange(new DeliveryOptions { Lease = TimeSpan.FromSeconds(30) }, _time);

    [Fact]
    public void First_claim_looks_at_everything() => _range.Next().Should().BeNull();

    [Fact]
    public void Cheap_claims_always_look_at_everything()
    {
        Look(milliseconds: 9, claimed: 0);

        _range.Next().Should().BeNull();
    }

    [Theory]
    [InlineData(Limit)]
    [InlineData(Limit - 1)]
    [InlineData(51)]
    public void Claims_that_find_much_have_their_price(int claimed)
    {
        Look(milliseconds: 100, claimed);

        _range.Next().Should().BeNull();
    }

    // A circuit that is open asks for one row.
    [Fact]
    public void A_claim_of_one_row_that_finds_it_may_have_left_others()
    {
        Look(milliseconds: 100, claimed: 1, limit: 1);

        _range.Next().Should().BeNull();
    }

    [Fact]
    public void After_a_dear_one_claims_look_at_what_has_come_since_it_began()
    {
        Look(milliseconds: 100, claimed: 3);

        _range.Next().Should().Be(TimeSpan.FromMilliseconds(1_100));
        _time.Advance(TimeSpan.FromMilliseconds(500));
        _range.Next().Should().Be(TimeSpan.FromMilliseconds(1_600));
    }

    [Fact]
    public void Looking_at_everything_takes_a_twentieth_of_the_time()
    {
        Look(milliseconds: 100, claimed: 0);

        _time.Advance(TimeSpan.FromMilliseconds(1_899));
        _range.Next().Should().NotBeNull();
        _time.Advance(TimeSpan.FromMilliseconds(1));
        _range.Next().Should().BeNull();
    }

    // A row may become visible late, or be leased by a clock that was set back: nobody finds it but a claim that looks at everything.
    [Fact]
    public void Everything_is_looked_at_once_in_a_lease_whatever_it_costs()
    {
        Look(milliseconds: 20_000, claimed: 0);

        _time.Advance(TimeSpan.FromSeconds(10));
        _range.Next().Should().BeNull();
    }

    [Fact]
    public void When_it_is_cheap_again_everything_is_looked_at_again()
    {
        Look(milliseconds: 100, claimed: 0);
        _time.Advance(TimeSpan.FromSeconds(2));
        Look(milliseconds: 1, claimed: 0);

        _range.Next().Should().BeNull();
    }

    private void Look(int milliseconds, int claimed, int limit = Limit)
    {
        var started = _time.GetTimestamp();
        _time.Advance(TimeSpan.FromMilliseconds(milliseconds));
        _range.Looked(started, claimed, limit);
    }
}
