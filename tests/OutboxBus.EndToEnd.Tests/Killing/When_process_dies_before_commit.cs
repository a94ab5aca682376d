using FluentAssertions;
using OutboxBus.Diagnostics;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_process_dies_before_commit
{
    [SkippableFact]
    public async Task Neither_order_nor_message_exists()
    {
        await using var ledger = await Ledger.OpenAsync();
        await using (var worker = await Worker.StartAsync(ledger.Settings with { Messages = 10, KillAt = FaultPoint.BeforeCommit, KillAfter = 5 }))
            await worker.DiedAsync();

        (await ledger.OrdersAsync()).Should().Be(4);
        await ledger.RecoverAndBalanceAsync();
        (await ledger.OrdersAsync()).Should().Be(4);
    }

    [SkippableFact]
    public async Task Message_being_consumed_is_consumed_again()
    {
        await using var ledger = await Ledger.OpenAsync();
        await using (var producer = await Worker.StartAsync(ledger.Settings with { Messages = 10 }))
        {
            await producer.PlacedAllAsync();
            await producer.StopAsync();
        }

        await using (var consumer = await Worker.StartAsync(ledger.Settings with { Consumes = true, KillAt = FaultPoint.BeforeCommit, KillAfter = 4 }))
            await consumer.DiedAsync();

        await ledger.RecoverAndBalanceAsync();
        (await ledger.OrdersAsync()).Should().Be(10);
    }
}
