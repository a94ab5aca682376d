using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class SendLimitsTests : IDisposable
{
    private readonly FakeTimeProvider _time = new();
    private readonly SendLimits _limits;
    private readonly CancellationTokenSource _abort = new();

    public SendLimitsTests() => _limits = new SendLimits(TimeSpan.FromSeconds(10), _time);

    public void Dispose() => _abort.Dispose();

    [Fact]
    public void A_send_ends_at_its_limit()
    {
        var send = _limits.Begin(_abort.Token);

        _time.Advance(TimeSpan.FromSeconds(10) - TimeSpan.FromTicks(1));
        send.IsCancellationRequested.Should().BeFalse();
        _time.Advance(TimeSpan.FromTicks(1));
        send.IsCancellationRequested.Should().BeTrue();
    }

    [Fact]
    public void A_send_has_at_least_nineteen_twentieths_of_the_limit_and_never_more_than_all_of_it()
    {
        _limits.Begin(_abort.Token);
        _time.Advance(TimeSpan.FromMilliseconds(499));
        var send = _limits.Begin(_abort.Token);

        _time.Advance(TimeSpan.FromSeconds(9.5));
        send.IsCancellationRequested.Should().BeFalse();
        _time.Advance(TimeSpan.FromSeconds(0.5));
        send.IsCancellationRequested.Should().BeTrue();
    }

    [Fact]
    public void Later_sends_have_a_limit_of_their_own()
    {
        var first = _limits.Begin(_abort.Token);
        _time.Advance(TimeSpan.FromSeconds(1));
        var second = _limits.Begin(_abort.Token);

        _time.Advance(TimeSpan.FromSeconds(9));
        first.IsCancellationRequested.Should().BeTrue();
        second.IsCancellationRequested.Should().BeFalse();
    }

    [Fact]
    public void Abort_ends_all_that_run_and_all_that_begin()
    {
        var first = _limits.Begin(_abort.Token);
        _time.Advance(TimeSpan.FromSeconds(1));
        var second = _limits.Begin(_abort.Token);

        _abort.Cancel();
        _time.Advance(TimeSpan.FromSeconds(1));

        first.IsCancellationRequested.Should().BeTrue();
        second.IsCancellationRequested.Should().BeTrue();
        _limits.Begin(_abort.Token).IsCancellationRequested.Should().BeTrue();
    }
}
