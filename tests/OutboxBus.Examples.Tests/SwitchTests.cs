using FluentAssertions;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class SwitchTests
{
    [Theory]
    [InlineData("Orders", "--nonsense", "Unrecognized command or argument '--nonsense'.")]
    [InlineData("Orders", "--postgres=nonsense", "--postgres is no connection string")]
    [InlineData("Orders", "--rabbitmq=http://localhost", "--rabbitmq is no URI such as \"amqp://")]
    [InlineData("Orders", "--sqlite=shop.db", "need --serve")]
    [InlineData("Sagas", "--shipping-limit=soon", "--shipping-limit is \"soon\"; it must be")]
    [InlineData("Sagas", "--shipping-limit=-1", "--shipping-limit is \"-1\"; it must be")]
    public async Task Wrong_switches_end_with_2_and_a_reason(string example, string argument, string reason)
    {
        var (exitCode, printed) = await ExampleProcess.RunAsync(example, argument);

        exitCode.Should().Be(2, printed);
        printed.Should().Contain(reason).And.NotContain("   at ");
    }

    [Theory]
    [InlineData("Orders", "orders_example")]
    [InlineData("Sagas", "sagas_example", "--shipping-limit")]
    public async Task Help_explains_the_switches_but_not_the_hidden_ones(string example, string schema, params string[] switches)
    {
        var (exitCode, printed) = await ExampleProcess.RunAsync(example, "--help");

        exitCode.Should().Be(0);
        printed.Should().ContainAll(["--serve", "--postgres", "--rabbitmq", schema, .. switches]).And.NotContain("--sabotage");
    }
}
