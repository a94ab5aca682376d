using Examples.Walkthrough;
using Sagas.Services;

namespace Sagas.Walkthrough.Steps;

/// <summary>A service does not answer: the timeout scheduled with the question comes, and everything is undone.</summary>
public sealed class SilentService : IStep<SagasStage>
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    public string Name => "timeout";

    public string Title => "An order whose shipping does not answer is cancelled after a timeout";

    public async Task RunAsync(SagasStage stage)
    {
        stage.LimitShipping(Limit);
        if (!stage.Accidents.IsSabotaged(Name))
            await stage.TellAsync(Service.Shipping, Behaviour.Silent);
        var order = await stage.PlaceAsync("Dora");
        await stage.CheckEndAsync(order, "AwaitingPayment AwaitingStock AwaitingShipment Cancelling Cancelled");
        stage.Transcript.Check("it was the timeout", "AnswerOverdue", (await stage.StatusAsync(order.Id)).History[3].Event);

        await stage.WaitForQuestionsAsync(Service.Shipping, [order]);
        stage.Transcript.Say("The parcel leaves all the same, too late");
        await stage.AnswerAsync(Service.Shipping, Behaviour.Accept, order);
        await stage.WaitAsync("the parcel is recalled", async () => (await stage.StatusAsync(order.Id)).Shipping == Saga.Leg.Undone);
        await stage.CheckEndAsync(order, "AwaitingPayment AwaitingStock AwaitingShipment Cancelling Cancelled Cancelling Cancelled");
        await stage.ResetAsync();
    }
}
