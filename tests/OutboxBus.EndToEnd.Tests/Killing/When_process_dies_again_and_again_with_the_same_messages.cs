using FluentAssertions;
using OutboxBus.Diagnostics;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_process_dies_again_and_again_with_the_same_messages
{
    // Two: the next claim makes them suspects. Five: they have been suspects for some time, through no fault of their own.
    [SkippableTheory]
    [InlineData(2)]
    [InlineData(5)]
    public async Task They_are_suspected_but_all_delivered_soon(int deaths)
    {
        const int Messages = 100;
        await using var ledger = await Ledger.OpenAsync();
        await using (var producer = await Worker.StartAsync(ledger.Settings with { Messages = Messages, Delivers = false }))
        {
            await producer.PlacedAllAsync();
            await producer.StopAsync();
        }

        for (var death = 1; death <= deaths; death++)
        {
            await using var claimer = await Worker.StartAsync(ledger.Settings with { KillAt = FaultPoint.AfterClaim });
            await claimer.DiedAsync();
        }

        (await ledger.OutboxAsync()).Should().HaveCount(Messages).And.OnlyContain(row => row.ClaimCount == deaths);
        await ledger.RecoverAndBalanceAsync();
    }
}
