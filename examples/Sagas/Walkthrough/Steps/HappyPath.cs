using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus;

namespace Sagas.Walkthrough.Steps;

/// <summary>The good case.</summary>
public sealed class HappyPath : IStep<SagasStage>
{
    public string Name => "happy";

    public string Title => "An order is paid, reserved, shipped and completed";

    public async Task RunAsync(SagasStage stage)
    {
        if (stage.Accidents.IsSabotaged(Name))
            stage.Accidents.TakeBrokerDown();

        var committed = "no commit";
        stage.Accidents.OnNextCommit(async () =>
        {
            await using var db = stage.OpenDatabase();
            committed = $"{await db.Orders.CountAsync()} order, {await db.Set<Envelope>().CountAsync()} message, {await db.States.CountAsync()} sagas";
        });
        var order = await stage.PlaceAsync("Ann", quantity: 2);
        stage.Transcript.Check("the order is committed together with the message that begins its saga", "1 order, 1 message, 0 sagas", committed);
        await stage.CheckEndAsync(order, "AwaitingPayment AwaitingStock AwaitingShipment Completed");
        stage.Transcript.Check("/health reports an outbox in order", "Healthy", await stage.GetAsync("/health"));
    }
}
