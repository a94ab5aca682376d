using FluentAssertions;
using OutboxBus.Diagnostics;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_process_dies_after_claim
{
    [SkippableFact]
    public async Task Claimed_messages_are_claimed_again_when_their_lease_has_ended()
    {
        await using var ledger = await Ledger.OpenAsync();
        await using (var producer = await Worker.StartAsync(ledger.Settings with { Messages = 20, Delivers = false }))
        {
            await producer.PlacedAllAsync();
            await producer.StopAsync();
        }

        await using (var claimer = await Worker.StartAsync(ledger.Settings with { KillAt = FaultPoint.AfterClaim }))
            await claimer.DiedAsync();

        var outbox = await ledger.OutboxAsync();
        outbox.Should().HaveCount(20).And.OnlyContain(row => row.ClaimCount == 1 && row.Attempts == 0);
        (await ledger.SentAsync()).Should().Be(0);
        await ledger.RecoverAndBalanceAsync();
    }
}
