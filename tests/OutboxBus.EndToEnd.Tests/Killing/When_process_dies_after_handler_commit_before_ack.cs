using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Diagnostics;
using OutboxBus.TestServers;
using OutboxBus.Workload;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_process_dies_after_handler_commit_before_ack
{
    [SkippableTheory]
    [InlineData(InboxMode.First, 1)]
    [InlineData(InboxMode.Last, 2)]
    public async Task Redelivered_message_has_no_effect_and_runs_the_handler_only_if_recorded_last(InboxMode mode, int runs)
    {
        await using var ledger = await Ledger.OpenAsync();
        await using (var producer = await Worker.StartAsync(ledger.Settings with { Messages = 1 }))
        {
            await producer.PlacedAllAsync();
            await Eventually.BecomesAsync(() => ledger.Broker.CountAsync(ReserveStockHandler.Queue), count => count == 1, "the message is in the handler's queue");
            await producer.StopAsync();
        }

        await using (var consumer = await Worker.StartAsync(ledger.Settings with { Consumes = true, Inbox = mode, KillAt = FaultPoint.AfterConsume }))
            await consumer.DiedAsync();

        await Eventually.BecomesAsync(
            () => ledger.Broker.CountAsync(ReserveStockHandler.Queue), count => count == 1, "the broker has taken back what was not acknowledged");
        (await ledger.BalanceAsync()).Reservations.Should().Be(1, "the handler's transaction had committed");
        await ledger.RecoverAndBalanceAsync(mode);
        await using var db = ledger.Read();
        (await db.HandlerEntries.CountAsync()).Should().Be(runs);
    }
}
