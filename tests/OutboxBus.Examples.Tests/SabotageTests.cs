using FluentAssertions;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class SabotageTests
{
    // A check that cannot fail is worth nothing: each accident is made to go wrong once.
    [Theory]
    [InlineData("Orders", "placed", "Ann's order is delivered, reserved and confirmed")]
    [InlineData("Orders", "rollback", "nothing is left of Cora's order")]
    [InlineData("Orders", "duplicate", "both subscribers' inboxes recognise it")]
    [InlineData("Orders", "outage", "delivery keeps probing the broker")]
    [InlineData("Orders", "kill", "that process was killed")]
    [InlineData("Sagas", "happy", "Ann's order becomes Completed")]
    [InlineData("Sagas", "refused", "Ben's order becomes Rejected")]
    [InlineData("Sagas", "soldout", "Cora's order becomes Cancelled")]
    [InlineData("Sagas", "timeout", "Dora's order becomes Cancelled")]
    [InlineData("Sagas", "answer", "Emil's order becomes Completed")]
    [InlineData("Sagas", "duplicates", "the inbox recognises 7 duplicates")]
    [InlineData("Sagas", "concurrent", "all 6 orders are cancelled")]
    [InlineData("Sagas", "kill", "that process was killed")]
    [InlineData("Sagas", "books", "the completed orders are paid, and no others")]
    public async Task A_step_whose_outcome_is_not_the_promised_one_fails_the_walkthrough(string example, string step, string brokenPromise)
    {
        var (exitCode, printed) = await ExampleProcess.RunAsync(example, "--sabotage", step, "--patience", "4");

        exitCode.Should().Be(1, printed);
        printed.Should().Contain($"FAILED: {brokenPromise}").And.Contain("0 of 1 steps passed");
    }
}
