using Examples.Walkthrough;
using Sagas.Api;
using Sagas.Data;
using Sagas.Services;

namespace Sagas.Walkthrough.Steps;

/// <summary>Two events for one order at the same time: none undoes what the other does.</summary>
public sealed class ConcurrentEvents : IStep<SagasStage>
{
    private const int Orders = 6;

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    // The answers are spread around the moment in which the timeouts are due, so that on most machines either wins some.
    private static readonly TimeSpan Head = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan Spacing = TimeSpan.FromMilliseconds(50);

    public string Name => "concurrent";

    public string Title => "Concurrent events of one order happen one after the other";

    public async Task RunAsync(SagasStage stage)
    {
        if (!stage.Accidents.IsSabotaged(Name))
            await stage.TellAsync(Service.Shipping, Behaviour.Refuse);
        var refused = await PlaceAsync(stage, "Gus");
        await stage.WaitAsync($"all {Orders} orders are cancelled", async () => await CountAsync(stage, refused, status => status.State == "Cancelled") == Orders);
        await stage.WaitForEmptyOutboxAsync();
        stage.Transcript.Check(
            "of refund and released goods, whichever came second has found both done, and cancelled the order",
            Orders,
            await CountAsync(stage, refused, status => SagasStage.WayOf(status) == "AwaitingPayment AwaitingStock AwaitingShipment Cancelling Cancelled"));
        await stage.CheckBooksAsync("no money, no goods and no parcel are left with any", refused);

        await stage.TellAsync(Service.Shipping, Behaviour.Silent);
        stage.LimitShipping(Limit);
        var raced = await PlaceAsync(stage, "Hugo");
        await stage.WaitForQuestionsAsync(Service.Shipping, raced);
        await stage.WaitAsync("the first timeout is due", async () => await stage.FirstTimeoutAsync() is not { } due || due < DateTime.UtcNow + Head);
        await stage.AnswerAsync(Service.Shipping, Behaviour.Accept, Spacing, raced);
        await stage.WaitAsync("each order has come to an end", async () => await CountAsync(stage, raced, status => status.State is "Completed" or "Cancelled") == Orders);
        await stage.WaitForEmptyOutboxAsync();
        stage.Transcript.Say($"Answers have raced with timeouts: {await CountAsync(stage, raced, status => status.State == "Completed")} completed, {await CountAsync(stage, raced, status => status.State == "Cancelled")} cancelled");
        await stage.CheckBooksAsync("the completed ones are paid, reserved and shipped, and nothing is left with the others", raced);
        await stage.ResetAsync();
    }

    private static async Task<Order[]> PlaceAsync(SagasStage stage, string customer)
        => await Task.WhenAll(Enumerable.Range(1, Orders).Select(number => stage.PlaceAsync($"{customer} {number}")));

    private static async Task<int> CountAsync(SagasStage stage, Order[] orders, Func<OrderStatus, bool> condition)
    {
        var count = 0;
        foreach (var order in orders)
            count += condition(await stage.StatusAsync(order.Id)) ? 1 : 0;
        return count;
    }
}
