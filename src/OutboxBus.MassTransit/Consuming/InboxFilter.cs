using System.Security.Cryptography;
using System.Text;
using MassTransit;
using MassTransit.DependencyInjection;
using MassTransit.Transports;
using OutboxBus.Consuming;
using OutboxBus.Diagnostics;
using OutboxBus.Publishing;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>Puts the inbox around one consumer of one message type on one endpoint. The protocol itself is <see cref="InboxGate"/>.</summary>
internal class InboxFilter<TMessage>(IConsumeScopeProvider scopes, TimeProvider time, string consumerName, OutboxWatch? watch) : IFilter<ConsumeContext<TMessage>>
    where TMessage : class
{
    // The inbox column's length.
    private const int MaxNameLength = 512;

    private string? _consumer;

    public async Task Send(ConsumeContext<TMessage> context, IPipe<ConsumeContext<TMessage>> next)
    {
        // UseOutboxBus may have been called on an endpoint that has the inbox anyway.
        if (context.TryGetPayload<InboxConsumeContext<TMessage>>(out _))
        {
            await next.Send(context).ConfigureAwait(false);
            return;
        }

        var started = time.GetTimestamp();
        var scope = await scopes.GetScope(context).ConfigureAwait(false);
        await using var disposal = scope.ConfigureAwait(false);
        var inbox = new InboxConsumeContext<TMessage>(scope.Context, scope.GetService<IServiceProvider>());
        using var pop = scope.PushConsumeContext(inbox);

        var outcome = ConsumeOutcome.Consumed;
        try
        {
            var gate = scope.GetService<InboxGate>();
            var guard = scope.GetService<BypassGuard>();
            var unit = scope.GetService<IUnitOfWorkSource>().Current;
            var keys = KeysOf(context);
            inbox.Key = keys[0];
            await unit.WithoutRetriesAsync(async () => outcome = await gate.ConsumeOnceAsync(unit, keys, HandleAsync, context.CancellationToken).ConfigureAwait(false)).ConfigureAwait(false);

            async Task HandleAsync(IReadOnlyCollection<InboxKey> fresh)
            {
                using var inside = guard.Enter(isHandler: true);
                await this.HandleAsync(inbox, fresh, unit, next).ConfigureAwait(false);
            }
        }
        catch (Exception exception)
        {
            watch?.Consumed(context.Message, inbox.Key.MessageId, consumerName, isDuplicate: false, exception);
            await inbox.ReportFaultedAsync(time.GetElapsedTime(started), consumerName, exception).ConfigureAwait(false);
            throw;
        }

        watch?.Consumed(context.Message, inbox.Key.MessageId, consumerName, outcome == ConsumeOutcome.Duplicate, exception: null);
        if (outcome == ConsumeOutcome.Consumed)
            await inbox.ReportConsumedAsync().ConfigureAwait(false);
        else
            // Without this the transport would take an acknowledged duplicate for a message nobody wanted, and park it.
            await context.NotifyConsumed(time.GetElapsedTime(started), consumerName).ConfigureAwait(false);
    }

    public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-inbox").Add("consumer", consumerName);

    /// <summary>The identities under which the message is consumed: one, unless it is a batch.</summary>
    protected virtual IReadOnlyList<InboxKey> KeysOf(ConsumeContext<TMessage> context) => [KeyOf(context, context)];

    /// <summary>Lets the consumer consume, in the transaction begun.</summary>
    /// <param name="inbox">What the consumer sees.</param>
    /// <param name="fresh">The keys of what was not consumed before.</param>
    /// <param name="unit">The transaction.</param>
    /// <param name="next">The consumer.</param>
    protected virtual async Task HandleAsync(InboxConsumeContext<TMessage> inbox, IReadOnlyCollection<InboxKey> fresh, IUnitOfWork unit, IPipe<ConsumeContext<TMessage>> next)
    {
        await next.Send(inbox).ConfigureAwait(false);
        // Publishes the handler did not await belong to its transaction too.
        await inbox.ConsumeCompleted.ConfigureAwait(false);
    }

    /// <summary>The identity of one message, consumed by itself or as part of what the endpoint consumes.</summary>
    protected InboxKey KeyOf(ConsumeContext<TMessage> consumed, ConsumeContext message)
    {
        _consumer ??= NameOf(consumed);
        var id = message.GetOriginalMessageId() ?? message.MessageId ?? throw new OutboxBusException(
            $"A message of type {typeof(TMessage)} arrived at {consumed.ReceiveContext.InputAddress} without a message id, so it cannot be consumed once. Remedy: let its sender set one.");
        return new InboxKey(id, _consumer, Generation.Of(message.Headers, _consumer));
    }

    private string NameOf(ConsumeContext<TMessage> context)
    {
        var name = $"{context.ReceiveContext.InputAddress.GetEndpointName()}/{consumerName}/{typeof(TMessage).FullName}";
        if (name.Length <= MaxNameLength)
            return name;
        var hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(name)));
        return string.Concat(name.AsSpan(0, MaxNameLength - hash.Length), hash);
    }
}
