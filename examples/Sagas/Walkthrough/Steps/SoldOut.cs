using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using Sagas.Data;

namespace Sagas.Walkthrough.Steps;

/// <summary>The second service refuses: what the first has done is undone.</summary>
public sealed class SoldOut : IStep<SagasStage>
{
    public string Name => "soldout";

    public string Title => "An order of more than there is gets its money back";

    public async Task RunAsync(SagasStage stage)
    {
        var order = await stage.PlaceAsync("Cora", quantity: stage.Accidents.IsSabotaged(Name) ? 1 : SagasDb.Stocked + 1);
        await stage.CheckEndAsync(order, "AwaitingPayment AwaitingStock Cancelling Cancelled");

        await using var db = stage.OpenDatabase();
        var entries = await db.Payments.Where(row => row.OrderId == order.Id).OrderBy(row => row.Id).Select(row => row.Cents).ToListAsync();
        stage.Transcript.Check("it was charged once and refunded once", $"{order.Cents} {-order.Cents}", string.Join(' ', entries));
    }
}
