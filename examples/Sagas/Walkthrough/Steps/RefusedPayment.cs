using Examples.Walkthrough;
using Sagas.Services;

namespace Sagas.Walkthrough.Steps;

/// <summary>The first service refuses: there is nothing to undo.</summary>
public sealed class RefusedPayment : IStep<SagasStage>
{
    public string Name => "refused";

    public string Title => "A refused payment rejects the order";

    public async Task RunAsync(SagasStage stage)
    {
        if (!stage.Accidents.IsSabotaged(Name))
            await stage.TellAsync(Service.Payment, Behaviour.Refuse);
        var order = await stage.PlaceAsync("Ben");
        await stage.CheckEndAsync(order, "AwaitingPayment Rejected");
        await stage.TellAsync(Service.Payment, Behaviour.Accept);
    }
}
