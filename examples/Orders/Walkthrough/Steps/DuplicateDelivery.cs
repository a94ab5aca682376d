using Examples.Walkthrough;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Orders.Api;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>The broker delivers a message again, as brokers do after a lost acknowledgement.</summary>
public sealed class DuplicateDelivery : IStep<OrdersStage>
{
    public string Name => "duplicate";

    public string Title => "A message delivered twice has its effects once";

    public async Task RunAsync(OrdersStage stage)
    {
        using var duplicates = new DuplicateCounter();
        var order = await stage.PlaceAsync("/orders", "Dora");
        await stage.CheckProcessedOnceAsync(order);

        await using var db = stage.OpenDatabase();
        var messageId = await db.Reservations.Where(row => row.OrderId == order.Id).Select(row => row.MessageId).SingleAsync();
        stage.Transcript.Say("The same message, with the same message id, goes to the broker once more");
        var secondId = stage.Accidents.IsSabotaged(Name) ? NewId.NextGuid() : messageId;
        // Straight to the broker, past the outbox.
        await stage.Services.GetRequiredService<IBus>().Publish(order.Placed(), context => context.MessageId = secondId);

        await stage.WaitAsync("both subscribers' inboxes recognise it", () => Task.FromResult(duplicates.Count >= 2));
        stage.Transcript.Check("both subscribers' inboxes recognise it", 2, duplicates.Count);
        await stage.CheckEffectsAsync("the effects counted in the database are those of one delivery", order.Id);
        stage.Transcript.Check("the inbox remembers the message once per subscriber", 2, await db.Set<InboxMessage>().CountAsync(row => row.MessageId == messageId));
    }
}
