using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using Sagas.Api;
using Sagas.Data;

namespace Sagas.Walkthrough.Steps;

/// <summary>What a single step cannot see: something that happened once too often, or too late, or that nobody asked for.</summary>
public sealed class FinalBooks : IStep<SagasStage>
{
    private static readonly string[] Ends = ["Completed", "Rejected", "Cancelled"];

    public string Name => "books";

    public string Title => "At the end of the day the books balance";

    public async Task RunAsync(SagasStage stage)
    {
        await using var db = stage.OpenDatabase();
        if (stage.Accidents.IsSabotaged(Name))
        {
            db.Payments.Add(new PaymentEntry { OrderId = Guid.NewGuid(), Cents = 1 });
            await db.SaveChangesAsync();
        }

        var orders = await db.Orders.AsNoTracking().ToListAsync();
        stage.Transcript.Check($"the orders are the {stage.Accepted.Count} accepted ones", string.Join(", ", stage.Accepted), string.Join(", ", orders.Select(order => order.Customer).Order(StringComparer.Ordinal)));

        var books = await Books.ReadAsync(db);
        var ends = string.Join(", ", books.States.Select(state => $"{state.Value} {state.Key}"));
        stage.Transcript.Check($"each order has one saga, and each saga has come to an end: {ends}", orders.Count, Ends.Sum(end => books.States.GetValueOrDefault(end)));

        var statuses = new List<OrderStatus>();
        foreach (var order in orders)
            statuses.Add(await stage.StatusAsync(order.Id));
        stage.Transcript.Check("none has gone on after that", "", string.Join(", ", statuses.Where(status => status.History[^1].State != status.State).Select(status => status.Order.Customer)));
        var completed = statuses.Where(status => status.State == "Completed").Select(status => status.Order).ToList();
        stage.Transcript.Check("the completed orders are paid, and no others", completed.Sum(order => order.Cents), books.CentsPaid);
        stage.Transcript.Check("what is not in the warehouse is with the completed orders", SagasDb.Stocked - completed.Sum(order => order.Quantity), books.OnHand);
        stage.Transcript.Check("each of them has one parcel", completed.Count, books.Parcels);
        stage.Transcript.Check("no message is left and none was given up", 0, books.Outbox + books.DeadLetters);
    }
}
