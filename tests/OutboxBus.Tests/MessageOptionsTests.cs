using FluentAssertions;
using Xunit;

namespace OutboxBus.Tests;

public sealed class MessageOptionsTests
{
    [Fact]
    public void Nothing_need_be_set() => new PublishOptions().Invoking(options => options.Validate()).Should().NotThrow();

    [Fact]
    public void Delay_may_be_zero() => new SendOptions { Delay = TimeSpan.Zero }.Invoking(options => options.Validate()).Should().NotThrow();

    public static TheoryData<PublishOptions, string> Wrong => new()
    {
        { new PublishOptions { Delay = TimeSpan.FromTicks(-1) }, "Delay is *between 0*" },
        { new PublishOptions { Delay = TimeSpan.FromSeconds(1), DueAt = DateTimeOffset.UnixEpoch }, "Both Delay and DueAt*" },
        { new PublishOptions { TimeToLive = TimeSpan.Zero }, "TimeToLive is *positive*" },
        { new PublishOptions { MessageId = Guid.Empty }, "MessageId is the empty GUID*" },
        { new PublishOptions { ScheduleToken = Guid.Empty, Delay = TimeSpan.Zero }, "ScheduleToken is the empty GUID*" },
        { new PublishOptions { ScheduleToken = Guid.NewGuid() }, "ScheduleToken is set, but neither Delay nor DueAt*" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void Wrong_values_are_refused_with_a_reason(PublishOptions options, string reason)
        => options.Invoking(wrong => wrong.Validate()).Should().Throw<ArgumentException>().WithMessage(reason);
}
