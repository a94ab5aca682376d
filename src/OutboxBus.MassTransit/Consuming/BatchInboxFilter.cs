using MassTransit;
using MassTransit.Batching;
using MassTransit.Context;
using MassTransit.DependencyInjection;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>
/// Puts the inbox around a consumer of batches: one record for each message, all in the batch's transaction. The consumer
/// gets those messages of the batch that it has not consumed before.
/// </summary>
internal sealed class BatchInboxFilter<TMessage>(IConsumeScopeProvider scopes, TimeProvider time, string consumerName, OutboxWatch? watch)
    : InboxFilter<Batch<TMessage>>(scopes, time, consumerName, watch)
    where TMessage : class
{
    protected override IReadOnlyList<InboxKey> KeysOf(ConsumeContext<Batch<TMessage>> context) => [.. context.Message.Select(message => KeyOf(context, message)).Distinct()];

    protected override async Task HandleAsync(
        InboxConsumeContext<Batch<TMessage>> inbox, IReadOnlyCollection<InboxKey> fresh, IUnitOfWork unit, IPipe<ConsumeContext<Batch<TMessage>>> next)
    {
        var batch = inbox.Message;
        var left = fresh.ToHashSet();
        var messages = new List<ConsumeContext<TMessage>>(fresh.Count);
        foreach (var message in batch)
        {
            var key = KeyOf(inbox, message);
            // What a consumer publishes or answers through one message of the batch belongs to the transaction as well.
            if (left.Remove(key))
                messages.Add(new InboxConsumeContext<TMessage>(message, inbox) { Key = key });
        }

        var context = new MessageConsumeContext<Batch<TMessage>>(inbox, new MessageBatch<TMessage>(batch.FirstMessageReceived, batch.LastMessageReceived, batch.Mode, messages));
        await next.Send(context).ConfigureAwait(false);
        await inbox.ConsumeCompleted.ConfigureAwait(false);
        foreach (var message in messages)
            await message.ConsumeCompleted.ConfigureAwait(false);
    }
}
