using FluentAssertions;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class SabotageTests
{
    // A check that cannot fail is worth nothing: each accident is made to go wrong once.
    [Theory]
    [InlineData("placed", "Ann's order is delivered, reserved and confirmed")]
    [InlineData("rollback", "nothing is left of Cora's order")]
    [InlineData("duplicate", "both subscribers' inboxes recognise it")]
    [InlineData("outage", "delivery keeps probing the broker")]
    [InlineData("kill", "that process was killed")]
    public async Task A_step_whose_outcome_is_not_the_promised_one_fails_the_walkthrough(string step, string brokenPromise)
    {
        var (exitCode, printed) = await OrdersProcess.RunAsync("--sabotage", step, "--patience", "4");

        exitCode.Should().Be(1, printed);
        printed.Should().Contain($"FAILED: {brokenPromise}").And.NotContain("6 of 6 steps");
    }
}
