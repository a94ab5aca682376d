using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>The good case, through both kinds of API.</summary>
public sealed class PlacedOrders : IStep<OrdersStage>
{
    public string Name => "placed";

    public string Title => "An order and its message are committed together, then delivered";

    public async Task RunAsync(OrdersStage stage)
    {
        if (stage.Accidents.IsSabotaged(Name))
            stage.Accidents.TakeBrokerDown();

        await PlaceAsync(stage, "the controller", "/orders", "Ann");
        await PlaceAsync(stage, "the minimal API", "/v2/orders", "Ben");
        stage.Transcript.Check("/health reports an outbox in order", "Healthy", await stage.GetAsync("/health"));
    }

    private static async Task PlaceAsync(OrdersStage stage, string api, string path, string customer)
    {
        var committed = "no commit";
        stage.Accidents.OnNextCommit(async () =>
        {
            await using var db = stage.OpenDatabase();
            committed = $"{await db.Orders.CountAsync(order => order.Customer == customer)} order, {await db.Set<Envelope>().CountAsync()} message";
        });

        var order = await stage.PlaceAsync(path, customer);
        stage.Transcript.Check($"{api} has committed the order together with its message", "1 order, 1 message", committed);
        await stage.CheckProcessedOnceAsync(order);
    }
}
