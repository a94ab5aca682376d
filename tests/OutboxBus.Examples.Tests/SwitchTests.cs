using FluentAssertions;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class SwitchTests
{
    [Theory]
    [InlineData("--nonsense", "Unrecognized command or argument '--nonsense'.")]
    [InlineData("--postgres=nonsense", "--postgres is no connection string")]
    [InlineData("--rabbitmq=http://localhost", "--rabbitmq is no URI such as \"amqp://")]
    [InlineData("--sqlite=shop.db", "need --serve")]
    public async Task Wrong_switches_end_with_2_and_a_reason(string argument, string reason)
    {
        var (exitCode, printed) = await ExampleProcess.RunAsync("Orders", argument);

        exitCode.Should().Be(2, printed);
        printed.Should().Contain(reason).And.NotContain("   at ");
    }

    [Theory]
    [InlineData("Orders", "orders_example")]
    public async Task Help_explains_the_switches_but_not_the_hidden_ones(string example, string schema)
    {
        var (exitCode, printed) = await ExampleProcess.RunAsync(example, "--help");

        exitCode.Should().Be(0);
        printed.Should().ContainAll("--serve", "--postgres", "--rabbitmq", schema).And.NotContain("--sabotage");
    }
}
