using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class HandOffTests : IDisposable
{
    private static readonly DateTime Created = new(2026, 7, 1, 12, 0, 0, DateTimeKind.Utc);

    private readonly FakeTimeProvider _time = new();
    private readonly DeliveryOptions _options = new() { HandOffMessages = 3, HandOffBytes = 100 };
    private readonly WakeUp _wakeUp;
    private readonly RecordedMetrics _metrics = new();
    private readonly HandOff _handOff;

    public HandOffTests()
    {
        _wakeUp = new WakeUp(_time);
        _handOff = new HandOff(_options, _time, _wakeUp, _metrics.Metrics);
    }

    [Fact]
    public void Commits_are_taken_in_order_with_their_certainty()
    {
        var first = Leased();
        var second = Leased();
        _handOff.Offer([first], CommitCertainty.Proven, 0);
        _handOff.Offer([second], CommitCertainty.Unverified, 0);

        Take().Should().BeEquivalentTo(new { Certainty = CommitCertainty.Proven, Envelopes = new[] { new { Envelope = first } } });
        Take().Should().BeEquivalentTo(new { Certainty = CommitCertainty.Unverified, Envelopes = new[] { new { Envelope = second } } });
        _handOff.TryTake(out _).Should().BeFalse();
        _handOff.IsEmpty.Should().BeTrue();
    }

    [Fact]
    public void Lease_ends_as_long_after_the_save_as_the_database_said()
    {
        var saved = _time.GetTimestamp();
        _time.Advance(TimeSpan.FromSeconds(5));

        _handOff.Offer([Leased(TimeSpan.FromSeconds(20))], CommitCertainty.Proven, saved);

        _time.GetElapsedTime(saved, Take().Envelopes[0].LeaseEnds).Should().Be(TimeSpan.FromSeconds(20));
    }

    [Fact]
    public void Time_of_the_commit_goes_along()
    {
        var saved = _time.GetTimestamp();
        _time.Advance(TimeSpan.FromSeconds(5));
        var committed = _time.GetTimestamp();

        _handOff.Offer([Leased()], CommitCertainty.Proven, saved);

        Take().Envelopes[0].Committed.Should().Be(committed);
    }

    [Fact]
    public void What_finds_no_room_is_counted()
    {
        _handOff.Offer([Leased(), Leased()], CommitCertainty.Proven, 0);
        _handOff.Offer([Leased(), Leased()], CommitCertainty.Proven, 0);

        _metrics.Sum("outboxbus.hand_off.overflow").Should().Be(2);
    }

    [Fact]
    public void Of_what_finds_no_room_the_keys_are_kept()
    {
        _handOff.Offer([Leased(), Leased(), Leased()], CommitCertainty.Proven, 0);
        var late = Leased();
        _handOff.Offer([late], CommitCertainty.Proven, 0);

        _handOff.TryTakeOverflow(out var keys).Should().BeTrue();
        keys.Should().BeEquivalentTo(new { late.Id, late.MessageId, late.VisibleAt, Body = Array.Empty<byte>() });
        _handOff.TryTakeOverflow(out _).Should().BeFalse();
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(3, 30)]
    public void No_more_than_ten_keys_are_kept_for_each_message_that_has_room(int room, int kept)
    {
        _options.HandOffMessages = room;
        _handOff.Offer([.. Enumerable.Range(0, room).Select(_ => Leased())], CommitCertainty.Proven, 0);

        for (var offer = 0; offer < 50; offer++)
            _handOff.Offer([Leased()], CommitCertainty.Proven, 0);

        var keys = 0;
        while (_handOff.TryTakeOverflow(out _))
            keys++;
        keys.Should().Be(kept);
    }

    [Fact]
    public void Offer_wakes_delivery()
    {
        _wakeUp.Reset();

        _handOff.Offer([Leased()], CommitCertainty.Proven, 0);

        _wakeUp.WaitAsync(TimeSpan.FromDays(1), CancellationToken.None).IsCompleted.Should().BeTrue();
    }

    [Fact]
    public void Rows_without_a_lease_are_left_to_be_claimed()
    {
        var delayed = Leased();
        delayed.DueAt = Created.AddHours(1);
        delayed.VisibleAt = Created.AddHours(1);
        var forOthers = Leased();
        forOthers.VisibleAt = DateTime.UnixEpoch;
        var leased = Leased();

        _handOff.Offer([delayed, forOthers], CommitCertainty.Proven, 0);
        _handOff.IsEmpty.Should().BeTrue();

        _handOff.Offer([delayed, leased, forOthers], CommitCertainty.Proven, 0);
        Take().Envelopes.Should().ContainSingle().Which.Envelope.Should().BeSameAs(leased);
    }

    [Fact]
    public void Delayed_row_is_announced_for_when_it_becomes_due_and_wakes_delivery()
    {
        var delayed = Leased(TimeSpan.FromSeconds(20));
        delayed.DueAt = delayed.VisibleAt;
        var saved = _time.GetTimestamp();
        _time.Advance(TimeSpan.FromSeconds(5));
        _wakeUp.Reset();

        _handOff.Offer([delayed], CommitCertainty.Proven, saved);

        _handOff.TryTakeDelay(out var dueAt).Should().BeTrue();
        // Never before the row can be claimed, whenever it was saved.
        _time.GetElapsedTime(_time.GetTimestamp(), dueAt).Should().Be(TimeSpan.FromSeconds(20));
        _wakeUp.WaitAsync(TimeSpan.FromDays(1), CancellationToken.None).IsCompleted.Should().BeTrue();
        _handOff.TryTakeDelay(out _).Should().BeFalse();
    }

    [Fact]
    public void Announcements_are_bounded_in_number_and_time()
    {
        var delayed = Enumerable.Range(0, 5000).Select(_ => Leased(TimeSpan.FromHours(1))).ToList();
        delayed.ForEach(row => row.DueAt = row.VisibleAt);
        var farAway = Leased();
        farAway.DueAt = farAway.VisibleAt = DateTime.MaxValue;

        _handOff.Offer([farAway, .. delayed], CommitCertainty.Proven, 0);

        var announced = 0;
        while (_handOff.TryTakeDelay(out var dueAt))
        {
            announced++;
            _time.GetElapsedTime(_time.GetTimestamp(), dueAt).Should().Be(TimeSpan.FromHours(1));
        }

        announced.Should().Be(1000);
    }

    [Fact]
    public void Messages_beyond_the_count_stay_in_the_database()
    {
        _handOff.Offer([Leased(), Leased()], CommitCertainty.Proven, 0);
        _handOff.Offer([Leased(), Leased()], CommitCertainty.Proven, 0);
        _handOff.Offer([Leased()], CommitCertainty.Proven, 0);
        _handOff.Offer([Leased()], CommitCertainty.Proven, 0);

        Take().Envelopes.Should().HaveCount(2);
        Take().Envelopes.Should().HaveCount(1);
        _handOff.TryTake(out _).Should().BeFalse();
    }

    [Fact]
    public void Messages_beyond_the_bytes_stay_in_the_database()
    {
        _handOff.Offer([Leased(bytes: 60)], CommitCertainty.Proven, 0);
        _handOff.Offer([Leased(bytes: 41)], CommitCertainty.Proven, 0);
        _handOff.Offer([Leased(bytes: 40)], CommitCertainty.Proven, 0);

        Take().Bytes.Should().Be(60);
        Take().Bytes.Should().Be(40);
        _handOff.TryTake(out _).Should().BeFalse();
    }

    [Fact]
    public void What_is_taken_makes_room()
    {
        for (var turn = 0; turn < 10; turn++)
        {
            _handOff.Offer([Leased(bytes: 30), Leased(bytes: 30), Leased(bytes: 40)], CommitCertainty.Proven, 0);
            Take().Envelopes.Should().HaveCount(3);
        }
    }

    [Fact]
    public void Bound_of_none_hands_nothing_over()
    {
        _options.HandOffMessages = 0;

        _handOff.Offer([Leased()], CommitCertainty.Proven, 0);

        _handOff.IsEmpty.Should().BeTrue();
    }

    [Fact]
    public void Closed_takes_no_more_but_gives_out_what_it_has()
    {
        _handOff.Offer([Leased()], CommitCertainty.Proven, 0);
        _wakeUp.Reset();

        _handOff.Close();
        _handOff.Offer([Leased()], CommitCertainty.Proven, 0);

        _handOff.IsClosed.Should().BeTrue();
        _wakeUp.WaitAsync(TimeSpan.FromDays(1), CancellationToken.None).IsCompleted.Should().BeTrue();
        Take().Envelopes.Should().ContainSingle();
        _handOff.TryTake(out _).Should().BeFalse();
    }

    public void Dispose() => _metrics.Dispose();

    private HandedOff Take()
    {
        _handOff.TryTake(out var handedOff).Should().BeTrue();
        return handedOff;
    }

    private static Envelope Leased(TimeSpan? lease = null, int bytes = 1) => new()
    {
        CreatedAt = Created,
        VisibleAt = Created + (lease ?? TimeSpan.FromSeconds(30)),
        Body = new byte[bytes],
    };
}
