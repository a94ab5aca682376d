using FluentAssertions;
using Microsoft.Extensions.Logging;
using OutboxBus.Publishing;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Publishing;

public sealed class BypassGuardTests : IDisposable
{
    private const string Type = "urn:message:Test:Happened";
    private const int Bypassed = 102;

    private readonly RecordedMetrics _metrics = new();
    private readonly RecordedLogs<BypassGuard> _logs = new();

    [Fact]
    public void Outside_a_unit_of_work_the_bus_is_as_good_as_any()
    {
        Guard(OutboxBypass.Throw).MessageGoesDirectly(Type);

        Count().Should().Be(0);
    }

    [Fact]
    public void Inside_one_it_is_warned_of_once_for_each_type_and_counted_each_time()
    {
        var guard = Guard(OutboxBypass.Warn);
        using var inside = guard.Enter();

        guard.MessageGoesDirectly(Type);
        guard.MessageGoesDirectly(Type);
        guard.MessageGoesDirectly("urn:message:Test:Other");

        Count().Should().Be(3);
        _logs.Count(Bypassed).Should().Be(2);
        _logs.Messages.Should().OnlyContain(message => message.Level == LogLevel.Warning);
        _logs.Messages[0].Text.Should().Contain(Type);
    }

    [Fact]
    public void Inside_one_it_throws_where_asked_for()
    {
        var guard = Guard(OutboxBypass.Throw);
        using var inside = guard.Enter();

        guard.Invoking(it => it.MessageGoesDirectly(Type)).Should().Throw<OutboxBusException>().WithMessage($"*{Type}*IOutboxContext*Publishing.Bypass*");
        Count().Should().Be(1);
    }

    [Fact]
    public void Inside_one_it_is_counted_even_when_allowed()
    {
        var guard = Guard(OutboxBypass.Allow);
        using var inside = guard.Enter();

        guard.MessageGoesDirectly(Type);

        Count().Should().Be(1);
        _logs.Messages.Should().BeEmpty();
    }

    [Fact]
    public async Task Inside_flows_into_what_is_called_and_not_into_what_ran_before()
    {
        var guard = Guard(OutboxBypass.Allow);
        var entered = new TaskCompletionSource();
        var before = SendAfter(entered.Task);

        using (guard.Enter())
        {
            entered.SetResult();
            await before;
            Count().Should().Be(0);
            await SendAfter(Task.CompletedTask);
        }

        Count().Should().Be(1);

        async Task SendAfter(Task signal)
        {
            await signal;
            await Task.Yield();
            guard.MessageGoesDirectly(Type);
        }
    }

    [Fact]
    public void Inside_ends_with_the_unit_of_work_also_for_calls_that_outlive_it()
    {
        var guard = Guard(OutboxBypass.Allow);
        var outer = guard.Enter();
        var inner = guard.Enter();

        inner.Dispose();
        guard.MessageGoesDirectly(Type);
        Count().Should().Be(1, "the outer one goes on");

        outer.Dispose();
        guard.MessageGoesDirectly(Type);
        Count().Should().Be(1);
    }

    [Fact]
    public void Request_of_a_handler_is_warned_of_once_for_each_type_and_is_no_bypass()
    {
        var guard = new BypassGuard(new PublishingOptions { Bypass = OutboxBypass.Throw }, _metrics.Metrics, _logs);
        guard.RequestGoesDirectly(Type);
        using (guard.Enter())
            guard.RequestGoesDirectly(Type);
        _logs.Messages.Should().BeEmpty("only a handler's transaction is open meanwhile");

        using var inside = guard.Enter(isHandler: true);
        using (guard.Enter())
            guard.RequestGoesDirectly(Type);
        _logs.Messages.Should().ContainSingle("a scope that a handler makes is inside its transaction");
        guard.RequestGoesDirectly(Type);

        _logs.Messages.Should().ContainSingle().Which.Text.Should().Contain(Type);
        Count().Should().Be(0);
    }

    [Theory]
    [InlineData(OutboxBypass.Throw, true)]
    [InlineData(OutboxBypass.Allow, false)]
    public void Request_of_a_handler_throws_or_is_allowed_where_asked_for(OutboxBypass option, bool throws)
    {
        var guard = new BypassGuard(new PublishingOptions { RequestsInHandlers = option }, _metrics.Metrics, _logs);
        using var inside = guard.Enter(isHandler: true);

        var request = guard.Invoking(it => it.RequestGoesDirectly(Type));

        if (throws)
            request.Should().Throw<OutboxBusException>().WithMessage($"*{Type}*Publishing.RequestsInHandlers*");
        else
            request.Should().NotThrow();
        _logs.Messages.Should().BeEmpty();
    }

    public void Dispose() => _metrics.Dispose();

    private double Count() => _metrics.Sum("outboxbus.bypassed");

    private BypassGuard Guard(OutboxBypass bypass) => new(new PublishingOptions { Bypass = bypass }, _metrics.Metrics, _logs);
}
