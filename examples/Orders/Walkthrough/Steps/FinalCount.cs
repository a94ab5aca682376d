using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>What a single step cannot see: something that happened once too often, or too late, or that nobody asked for.</summary>
public sealed class FinalCount : IStep<OrdersStage>
{
    public string Name => "count";

    public string Title => "At the end of the day the books balance";

    public async Task RunAsync(OrdersStage stage)
    {
        await using var db = stage.OpenDatabase();
        var customers = await db.Orders.Select(order => order.Customer).ToListAsync();
        var complete = await db.Orders.CountAsync(order =>
            db.Reservations.Count(row => row.OrderId == order.Id) == 1
            && db.Confirmations.Count(row => row.OrderId == order.Id) == 1
            && db.Notifications.Count(row => row.OrderId == order.Id) == 2);
        stage.Transcript.Check($"the orders are the {stage.Accepted.Count} accepted ones", string.Join(", ", stage.Accepted), string.Join(", ", customers.Order(StringComparer.Ordinal)));
        stage.Transcript.Check("each has one reservation, one confirmation and two notifications", customers.Count, complete);

        var told = (await db.Notifications.Select(row => row.Text).ToListAsync()).Where(text => FailedTransaction.Customers.Any(text.Contains));
        stage.Transcript.Check("nobody heard of an order that was rolled back", "", string.Join(" ", told));
        stage.Transcript.Check("no message is left and none was given up", 0, await db.Set<Envelope>().CountAsync() + await db.Set<DeadLetter>().CountAsync());
    }
}
