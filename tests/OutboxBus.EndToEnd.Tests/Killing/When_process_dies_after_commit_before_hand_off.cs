using FluentAssertions;
using OutboxBus.Diagnostics;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_process_dies_after_commit_before_hand_off
{
    [SkippableFact]
    public async Task Message_is_sent_by_the_next_process()
    {
        await using var ledger = await Ledger.OpenAsync();
        await using (var worker = await Worker.StartAsync(ledger.Settings with { Messages = 10, KillAt = FaultPoint.AfterCommit, KillAfter = 5 }))
            await worker.DiedAsync();

        (await ledger.OrdersAsync()).Should().Be(5);
        (await ledger.OutboxAsync()).Should().NotBeEmpty("the last message was never handed to delivery");
        await ledger.RecoverAndBalanceAsync();
    }
}
