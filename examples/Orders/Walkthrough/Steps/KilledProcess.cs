using System.Diagnostics;
using System.Globalization;
using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>A process dies in the worst moment: the order is committed, and nothing has been delivered.</summary>
public sealed class KilledProcess : IStep<OrdersStage>
{
    private const string Customer = "Finn";

    public string Name => "kill";

    public string Title => "A process killed between commit and delivery loses nothing";

    public async Task RunAsync(OrdersStage stage)
    {
        stage.Transcript.Say("The application stops; another process of it starts, takes one order and kills itself after the commit (kill -9)");
        await stage.RunVictimAsync(Customer, Name);
        var died = Stopwatch.GetTimestamp();

        Guid orderId;
        await using (var db = stage.OpenDatabase())
        {
            var orders = await db.Orders.AsNoTracking().Where(order => order.Customer == Customer).ToListAsync();
            stage.Transcript.Check($"{Customer}'s order is committed", 1, orders.Count);
            orderId = orders[0].Id;
            stage.Transcript.Check("its message is in the outbox", 1, await db.Set<Envelope>().CountAsync());
            stage.Transcript.Check("nothing was delivered", 0, await db.Reservations.CountAsync(row => row.OrderId == orderId));
        }

        await stage.StartAppAsync();
        stage.Transcript.Say("The application starts again, on the same database");
        await stage.WaitAsync($"{Customer}'s order is delivered after the lease", async () =>
        {
            await using var db = stage.OpenDatabase();
            return await db.Notifications.CountAsync(row => row.OrderId == orderId) == 2 && !await db.Set<Envelope>().AnyAsync();
        });
        var seconds = Stopwatch.GetElapsedTime(died).TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture);
        await stage.CheckEffectsAsync($"{Customer}'s order is delivered, reserved and confirmed once, {seconds} s after the kill", orderId);
    }
}
