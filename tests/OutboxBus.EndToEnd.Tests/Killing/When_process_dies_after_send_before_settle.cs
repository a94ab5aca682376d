using FluentAssertions;
using OutboxBus.Diagnostics;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_process_dies_after_send_before_settle
{
    [SkippableFact]
    public async Task Message_is_sent_again_and_has_its_effect_once()
    {
        await using var ledger = await Ledger.OpenAsync();
        await using (var worker = await Worker.StartAsync(ledger.Settings with { Messages = 1, KillAt = FaultPoint.AfterSend }))
            await worker.DiedAsync();

        (await ledger.OutboxAsync()).Should().ContainSingle("the broker has confirmed the message, but nobody has settled it");
        (await ledger.SentAsync()).Should().Be(1);
        await ledger.RecoverAndBalanceAsync();
        (await ledger.SentAsync()).Should().BeGreaterThan(1);
    }
}
