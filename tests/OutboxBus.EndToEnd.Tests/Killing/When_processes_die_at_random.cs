using System.Globalization;
using FluentAssertions;
using OutboxBus.Diagnostics;
using Xunit;
using Xunit.Abstractions;

namespace OutboxBus.EndToEnd.Tests.Killing;

public sealed class When_processes_die_at_random(ITestOutputHelper output)
{
    // To repeat a run, set it to the printed seed.
    private const string SeedVariable = "OUTBOXBUS_TEST_SEED";

    [SkippableFact]
    public async Task Nothing_is_lost_and_nothing_happens_twice()
    {
        const int Rounds = 5;
        const int Messages = 60;
        var seed = int.TryParse(Environment.GetEnvironmentVariable(SeedVariable), CultureInfo.InvariantCulture, out var given) ? given : Environment.TickCount;
        output.WriteLine($"seed {seed}");
        // The same seed must give the same kills: this is no security.
#pragma warning disable CA5394
        var random = new Random(seed);
        await using var ledger = await Ledger.OpenAsync();
        // Its orders come in bulk, so that claims happen too, and are many.
        await using var producer = await Worker.StartAsync(ledger.Settings with { Messages = 200, Delivers = false });
        var deaths = 0;
        for (var round = 0; round < Rounds; round++)
        {
            var point = random.GetItems(Enum.GetValues<FaultPoint>(), 1)[0];
            // Claims are few, the other points are passed for every message.
            var after = point == FaultPoint.AfterClaim ? random.Next(1, 3) : random.Next(1, Messages);
            output.WriteLine($"round {round}: {point}, time {after}");
            await using var worker = await Worker.StartAsync(ledger.Settings with { Consumes = true, Messages = Messages, KillAt = point, KillAfter = after });
            if (await worker.DiesBeforeAsync(async () => (await ledger.BalanceAsync()).IsSettled))
                deaths++;
        }
#pragma warning restore CA5394

        deaths.Should().BePositive();
        await producer.PlacedAllAsync();
        await producer.StopAsync();
        await ledger.RecoverAndBalanceAsync();
    }
}
