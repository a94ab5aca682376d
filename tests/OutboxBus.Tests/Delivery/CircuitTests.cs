using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class CircuitTests
{
    private static readonly TimeSpan Tick = TimeSpan.FromTicks(1);

    private readonly FakeTimeProvider _time = new();
    private readonly DeliveryOptions _options = new() { MinOutagePause = TimeSpan.FromSeconds(1), MaxOutagePause = TimeSpan.FromSeconds(3) };
    private readonly Circuit _circuit;

    public CircuitTests() => _circuit = new Circuit(_options, _time, new MiddleRandom());

    [Fact]
    public void First_failure_opens_and_the_next_ones_tell_nothing_new()
    {
        var started = _time.GetTimestamp();

        _circuit.TransportFailed(started, probe: false).Should().BeTrue();
        _circuit.TransportFailed(started, probe: false).Should().BeFalse();

        _circuit.IsOpen.Should().BeTrue();
        _circuit.UntilProbe.Should().Be(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Closed_circuit_is_not_probed_and_lets_everything_through()
    {
        _circuit.MayProbe.Should().BeFalse();
        _circuit.Ask().Should().Be(SendPermission.Send);
        _circuit.Ask().Should().Be(SendPermission.Send);
    }

    [Fact]
    public void Probe_may_go_when_the_pause_is_over_and_not_before()
    {
        Fail();

        _time.Advance(TimeSpan.FromSeconds(1) - Tick);
        _circuit.MayProbe.Should().BeFalse();
        _circuit.Ask().Should().Be(SendPermission.None);
        _circuit.UntilProbe.Should().Be(Tick);

        _time.Advance(Tick);
        _circuit.MayProbe.Should().BeTrue();
        _circuit.UntilProbe.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public void One_probe_goes_at_a_time()
    {
        Fail();
        _time.Advance(TimeSpan.FromSeconds(1));

        _circuit.Ask().Should().Be(SendPermission.Probe);
        _circuit.MayProbe.Should().BeFalse();
        _circuit.Ask().Should().Be(SendPermission.None);
        _circuit.UntilProbe.Should().Be(_options.SendTimeout);
        _circuit.PauseLeft.Should().Be(TimeSpan.Zero);

        _circuit.ProbeEnded();
        _circuit.Ask().Should().Be(SendPermission.Probe);
    }

    [Fact]
    public void Pause_doubles_with_each_failed_probe_up_to_the_longest()
    {
        Fail();
        foreach (var pause in new[] { 2, 3, 3 })
        {
            FailProbe();
            _circuit.UntilProbe.Should().Be(TimeSpan.FromSeconds(pause));
        }
    }

    [Fact]
    public void Stragglers_of_an_outage_do_not_lengthen_the_pause()
    {
        Fail();

        for (var straggler = 0; straggler < 100; straggler++)
            Fail();

        _circuit.UntilProbe.Should().Be(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Stragglers_that_fail_during_a_probe_neither_end_it_nor_lengthen_the_pause()
    {
        Fail();
        _time.Advance(TimeSpan.FromSeconds(1));
        _circuit.Ask().Should().Be(SendPermission.Probe);

        Fail();

        _circuit.Ask().Should().Be(SendPermission.None);
        _circuit.ProbeEnded();
        _circuit.MayProbe.Should().BeTrue();
    }

    [Fact]
    public void Confirm_closes_and_the_next_outage_starts_with_the_shortest_pause()
    {
        Fail();
        FailProbe();

        _circuit.Confirmed(_time.GetTimestamp()).Should().BeTrue();
        _circuit.Confirmed(_time.GetTimestamp()).Should().BeFalse();

        _circuit.IsOpen.Should().BeFalse();
        _time.Advance(Tick);
        Fail();
        _circuit.UntilProbe.Should().Be(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Failure_of_an_older_send_than_one_confirmed_is_not_an_outage()
    {
        var older = _time.GetTimestamp();
        _time.Advance(TimeSpan.FromMilliseconds(1));
        _circuit.Confirmed(_time.GetTimestamp());

        _circuit.TransportFailed(older, probe: false).Should().BeFalse();

        _circuit.IsOpen.Should().BeFalse();
    }

    [Fact]
    public void Every_confirm_is_counted()
    {
        _circuit.Confirmed(0);
        _circuit.Confirmed(0);

        _circuit.Confirmations.Should().Be(2);
    }

    private void Fail() => _circuit.TransportFailed(_time.GetTimestamp(), probe: false);

    private void FailProbe()
    {
        _time.Advance(_circuit.UntilProbe);
        _circuit.Ask().Should().Be(SendPermission.Probe);
        _circuit.TransportFailed(_time.GetTimestamp(), probe: true);
        _circuit.PauseLeft.Should().BePositive("a message rescheduled before the probe has ended waits no longer than the pause");
        _circuit.PauseLeft.Should().BeLessThanOrEqualTo(_options.MaxOutagePause);
        _circuit.ProbeEnded();
    }
}
