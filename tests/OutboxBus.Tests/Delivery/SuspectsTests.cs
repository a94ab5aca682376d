using FluentAssertions;
using OutboxBus.Delivery;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class SuspectsTests
{
    private readonly Suspects _suspects = new();
    private readonly Envelope _message = new() { Id = 1 };

    [Fact]
    public void Outage_makes_nobody_suspect_however_long()
    {
        for (var failure = 0; failure < 100; failure++)
            _suspects.Failed(_message, confirmations: 7).Should().BeFalse();

        _suspects.Contains(_message).Should().BeFalse();
    }

    [Fact]
    public void Failing_twice_while_others_succeed_makes_suspect_and_the_next_time_is_charged()
    {
        _suspects.Failed(_message, 0).Should().BeFalse();
        _suspects.Contains(_message).Should().BeFalse();

        _suspects.Failed(_message, 1).Should().BeFalse();
        _suspects.Contains(_message).Should().BeTrue();

        _suspects.Failed(_message, 2).Should().BeTrue();
        _suspects.Failed(_message, 3).Should().BeTrue();
    }

    [Fact]
    public void Suspect_is_not_charged_for_an_outage_that_comes_later()
    {
        _suspects.Failed(_message, 0);
        _suspects.Failed(_message, 1);

        _suspects.Failed(_message, 1).Should().BeFalse();
        _suspects.Failed(_message, 2).Should().BeTrue();
    }

    [Fact]
    public void Forgotten_message_starts_anew()
    {
        _suspects.Failed(_message, 0);
        _suspects.Failed(_message, 1);

        _suspects.Forget(_message);

        _suspects.Contains(_message).Should().BeFalse();
        _suspects.Failed(_message, 2).Should().BeFalse();
    }

    [Fact]
    public void Messages_are_told_apart()
    {
        var other = new Envelope { Id = 2 };
        _suspects.Failed(_message, 0);
        _suspects.Failed(_message, 1);
        _suspects.Failed(other, 1);

        _suspects.Contains(other).Should().BeFalse();
    }

    [Fact]
    public void Full_memory_makes_room_by_forgetting_those_that_failed_only_once()
    {
        _suspects.Failed(_message, 0);
        _suspects.Failed(_message, 1);
        for (var id = 2; id <= 10_000; id++)
            _suspects.Failed(new Envelope { Id = id }, 1);
        var newcomer = new Envelope { Id = 10_001 };

        _suspects.Failed(newcomer, 1);
        _suspects.Failed(newcomer, 2);
        _suspects.Failed(new Envelope { Id = 2 }, 2);

        _suspects.Contains(_message).Should().BeTrue("it is known to be suspect");
        _suspects.Contains(newcomer).Should().BeTrue("there was room for it");
        _suspects.Contains(new Envelope { Id = 2 }).Should().BeFalse("its first failure is forgotten");
    }
}
