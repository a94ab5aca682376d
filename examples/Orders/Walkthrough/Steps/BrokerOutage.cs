using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using Orders.Data;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>The broker is away for a while.</summary>
public sealed class BrokerOutage : IStep<OrdersStage>
{
    public string Name => "outage";

    public string Title => "A broker outage delays messages and loses none";

    public async Task RunAsync(OrdersStage stage)
    {
        var refusedBefore = stage.Accidents.RefusedSends;
        if (!stage.Accidents.IsSabotaged(Name))
            stage.Accidents.TakeBrokerDown();
        stage.Transcript.Say("The broker is down");

        var orders = new List<Order>();
        foreach (var customer in (string[])["Emil", "Ella", "Enzo"])
            orders.Add(await stage.PlaceAsync("/v2/orders", customer));
        await stage.WaitAsync("delivery keeps probing the broker", () => Task.FromResult(stage.Accidents.RefusedSends >= refusedBefore + 3));

        await using (var db = stage.OpenDatabase())
        {
            var waiting = await db.Set<Envelope>().AsNoTracking().ToListAsync();
            stage.Transcript.Check("all three orders are accepted and their messages wait", 3, waiting.Count);
            stage.Transcript.Check($"{stage.Accidents.RefusedSends - refusedBefore} sends failed, and cost no message an attempt", 0, waiting.Sum(message => message.Attempts));
            stage.Transcript.Check("nothing is delivered", 0, await db.Reservations.CountAsync(row => orders.Select(order => order.Id).Contains(row.OrderId)));
        }

        stage.Transcript.Check("/health does not blame the application", "Healthy", await stage.GetAsync("/health"));

        stage.Accidents.BringBrokerBack();
        stage.Transcript.Say("The broker is back");
        foreach (var order in orders)
            await stage.CheckProcessedOnceAsync(order);
        await using var after = stage.OpenDatabase();
        stage.Transcript.Check("there are no dead letters", 0, await after.Set<DeadLetter>().CountAsync());
    }
}
