using System.Security.Cryptography;
using System.Text;
using MassTransit;
using MassTransit.DependencyInjection;
using MassTransit.Middleware;
using MassTransit.Transports;
using OutboxBus.Consuming;
using OutboxBus.Publishing;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>Puts the inbox around one consumer of one message type on one endpoint. The protocol itself is <see cref="InboxGate"/>.</summary>
internal sealed class InboxFilter<TMessage>(IConsumeScopeProvider scopes, TimeProvider time, string consumerName) : IFilter<ConsumeContext<TMessage>>
    where TMessage : class
{
    // The inbox column's length.
    private const int MaxNameLength = 512;
    private static readonly OutboxConsumeOptions Unused = new();

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
        var inbox = new InboxConsumeContext<TMessage>(scope.Context, Unused, scope.GetService<IServiceProvider>());
        using var pop = scope.PushConsumeContext(inbox);

        var outcome = ConsumeOutcome.Consumed;
        try
        {
            var gate = scope.GetService<InboxGate>();
            var unit = scope.GetService<IUnitOfWorkSource>().Current;
            var key = inbox.Key = KeyOf(context);
            await unit.WithoutRetriesAsync(async () =>
                outcome = await gate.ConsumeOnceAsync(unit, key, () => HandleAsync(inbox, next, scope.GetService<BypassGuard>()), context.CancellationToken).ConfigureAwait(false)).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            await inbox.ReportFaultedAsync(time.GetElapsedTime(started), consumerName, exception).ConfigureAwait(false);
            throw;
        }

        if (outcome == ConsumeOutcome.Consumed)
            await inbox.ReportConsumedAsync().ConfigureAwait(false);
        else
            // Without this the transport would take an acknowledged duplicate for a message nobody wanted, and park it.
            await context.NotifyConsumed(time.GetElapsedTime(started), consumerName).ConfigureAwait(false);
    }

    public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-inbox").Add("consumer", consumerName);

    private static async Task HandleAsync(InboxConsumeContext<TMessage> inbox, IPipe<ConsumeContext<TMessage>> next, BypassGuard guard)
    {
        using var inside = guard.Enter();
        await next.Send(inbox).ConfigureAwait(false);
        // Publishes the handler did not await belong to its transaction too.
        await inbox.ConsumeCompleted.ConfigureAwait(false);
    }

    private InboxKey KeyOf(ConsumeContext<TMessage> context)
    {
        _consumer ??= NameOf(context);
        return new InboxKey(MessageIdOf(context), _consumer, Generation.Of(context.Headers, _consumer));
    }

    private static Guid MessageIdOf(ConsumeContext<TMessage> context)
        => context.GetOriginalMessageId() ?? context.MessageId ?? throw new OutboxBusException(
            $"A message of type {typeof(TMessage)} arrived at {context.ReceiveContext.InputAddress} without a message id, so it cannot be consumed once. Remedy: let its sender set one.");

    private string NameOf(ConsumeContext<TMessage> context)
    {
        var name = $"{context.ReceiveContext.InputAddress.GetEndpointName()}/{consumerName}/{typeof(TMessage).FullName}";
        if (name.Length <= MaxNameLength)
            return name;
        var hash = Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(name)));
        return string.Concat(name.AsSpan(0, MaxNameLength - hash.Length), hash);
    }
}
