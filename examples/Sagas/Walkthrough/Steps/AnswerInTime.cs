using Examples.Walkthrough;
using Sagas.Services;

namespace Sagas.Walkthrough.Steps;

/// <summary>A service takes its time, but not too much: its answer takes the timeout back.</summary>
public sealed class AnswerInTime : IStep<SagasStage>
{
    public string Name => "answer";

    public string Title => "An answer that comes in time takes the timeout back";

    public async Task RunAsync(SagasStage stage)
    {
        await stage.TellAsync(Service.Shipping, Behaviour.Silent);
        var order = await stage.PlaceAsync("Emil");
        await stage.WaitForStateAsync(order, "AwaitingShipment");
        // The timeouts of payment and stock were scheduled and taken back before.
        await stage.WaitAsync("all else is delivered", async () => await stage.CountOutboxAsync() == 1);
        stage.Transcript.Check("one timeout is scheduled: a row of the outbox, due later", 1, await stage.CountTimeoutsAsync());

        if (!stage.Accidents.IsSabotaged(Name))
            await stage.AnswerAsync(Service.Shipping, Behaviour.Accept, order);
        await stage.WaitForStateAsync(order, "Completed");
        stage.Transcript.Check("the row is gone with the commit that completes the order", 0, await stage.CountTimeoutsAsync());
        await stage.CheckEndAsync(order, "AwaitingPayment AwaitingStock AwaitingShipment Completed");
        await stage.ResetAsync();
    }
}
