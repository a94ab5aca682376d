using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using Orders.Api;
using Orders.Data;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>Failures after the publish: before, inside and after SaveChanges.</summary>
public sealed class FailedTransaction : IStep<OrdersStage>
{
    private const string Refused = "Carl";
    private const string Unsaved = "Cleo";
    private const string RolledBack = "Cora";

    /// <summary>Whose orders fail.</summary>
    public static readonly IReadOnlyList<string> Customers = [Refused, Unsaved, RolledBack];

    public string Name => "rollback";

    public string Title => "A transaction that fails leaves neither order nor message";

    public async Task RunAsync(OrdersStage stage)
    {
        using (var refused = await stage.PostAsync("/orders", new PlaceOrder(Refused, "teapot", 0)))
            stage.Transcript.Check("inside SaveChanges: the database refuses an order of nothing", 409, (int)refused.StatusCode);
        await CheckNothingIsLeftAsync(stage, Refused);

        stage.Transcript.Say($"{Unsaved}'s order: an exception after the publish, before SaveChanges");
        await FailAsync(stage, Unsaved, static (_, _) => throw new InjectedFailureException());
        await CheckNothingIsLeftAsync(stage, Unsaved);

        stage.Transcript.Say($"{RolledBack}'s order: an exception after SaveChanges, in an explicit transaction that is rolled back");
        await FailAsync(stage, RolledBack, SaveAndFailAsync);
        await CheckNothingIsLeftAsync(stage, RolledBack);
    }

    /// <summary>Does what an endpoint does, up to the failure.</summary>
    private static async Task FailAsync(OrdersStage stage, string customer, Func<OrdersStage, OrdersDb, Task> fail)
    {
        await using var scope = stage.Services.CreateAsyncScope();
        var db = scope.ServiceProvider.GetRequiredService<OrdersDb>();
        var outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();
        var order = new PlaceOrder(customer, "teapot", 1).ToOrder();
        db.Orders.Add(order);
        await outbox.Publish(order.Placed());
        try
        {
            await fail(stage, db);
        }
        catch (InjectedFailureException)
        {
            // The scope ends as it does after a request that failed.
        }
    }

    private static async Task SaveAndFailAsync(OrdersStage stage, OrdersDb db)
    {
        await using var transaction = await db.Database.BeginTransactionAsync();
        await db.SaveChangesAsync();
        stage.Transcript.Check("inside the transaction the message is stored", 1, await db.Set<Envelope>().CountAsync());
        if (stage.Accidents.IsSabotaged("rollback"))
            await transaction.CommitAsync();
        throw new InjectedFailureException();
    }

    private static async Task CheckNothingIsLeftAsync(OrdersStage stage, string customer)
    {
        await using var db = stage.OpenDatabase();
        var left = $"{await db.Orders.CountAsync(order => order.Customer == customer)} orders, {await db.Set<Envelope>().CountAsync()} messages";
        stage.Transcript.Check($"nothing is left of {customer}'s order", "0 orders, 0 messages", left);
    }

    private sealed class InjectedFailureException : Exception;
}
