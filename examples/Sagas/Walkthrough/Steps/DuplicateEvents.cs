using Examples.Walkthrough;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using OutboxBus;
using Sagas.Api;
using Sagas.Contracts;
using Sagas.Data;

namespace Sagas.Walkthrough.Steps;

/// <summary>Every message comes twice, and every event again and again.</summary>
public sealed class DuplicateEvents : IStep<SagasStage>
{
    private const string Way = "AwaitingPayment AwaitingStock AwaitingShipment Completed";

    // The submitted order, three questions, three answers.
    private const int Messages = 7;

    public string Name => "duplicates";

    public string Title => "Duplicates of every event change nothing";

    public async Task RunAsync(SagasStage stage)
    {
        using var duplicates = new DuplicateCounter();
        var sent = stage.Accidents.CopySent();
        var order = await stage.PlaceAsync("Fay");
        await stage.CheckEndAsync(order, Way);
        stage.Accidents.Clear();

        stage.Transcript.Say("The outbox sends the order's messages again, as after a crash between the broker's confirm and the deletion of their rows");
        await SendAgainAsync(stage, [.. sent.Take(stage.Accidents.IsSabotaged(Name) ? Messages - 1 : Messages)]);
        await stage.WaitForEmptyOutboxAsync();
        await stage.WaitAsync($"the inbox recognises {Messages} duplicates", () => Task.FromResult(duplicates.Count >= Messages));
        stage.Transcript.Check($"the inbox recognises all {Messages}", Messages, duplicates.Count);
        await stage.CheckWayAsync(order, "the saga has gone no further", Way);
        await stage.CheckBooksAsync(order, "Completed");

        stage.Transcript.Say("Every event that the saga knows comes again, as a new message with a new id, which no inbox can recognise");
        await RepeatAsync(stage, order);
        await stage.CheckWayAsync(order, "the saga ignores them", Way);
        await stage.CheckBooksAsync(order, "Completed");
    }

    private static async Task SendAgainAsync(SagasStage stage, IReadOnlyList<Envelope> messages)
    {
        await using var db = stage.OpenDatabase();
        db.AddRange(messages);
        await db.SaveChangesAsync();
    }

    private static async Task RepeatAsync(SagasStage stage, Order order)
    {
        var id = order.Id;
        object[] events =
        [
            order.Submitted(),
            new PaymentAccepted(id), new PaymentRefused(id), new PaymentRefunded(id),
            new StockReserved(id), new OutOfStock(id), new StockReleased(id),
            new OrderShipped(id), new ShippingRefused(id), new ParcelRecalled(id),
            new AnswerOverdue(id),
        ];
        var ids = events.ToDictionary(_ => NewId.NextGuid());
        // Straight to the broker, past the outbox.
        var bus = stage.Services.GetRequiredService<IBus>();
        foreach (var (messageId, repeated) in ids)
            await bus.Publish(repeated, repeated.GetType(), context => context.MessageId = messageId);

        await stage.WaitAsync("the saga has consumed them", async () =>
        {
            await using var db = stage.OpenDatabase();
            return await db.Set<InboxMessage>().CountAsync(row => ids.Keys.Contains(row.MessageId)) == events.Length;
        });
    }
}
