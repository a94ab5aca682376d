using MassTransit;
using OutboxBus.MassTransit.Publishing;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>The handler's view of a consume context.</summary>
internal sealed class MessageContext(ConsumeContext context, ScheduledMessages scheduled) : OutboxContext(context, context, scheduled), IMessageContext
{
    private Dictionary<string, object?>? _headers;

    // As the inbox identifies it: a redelivery may have got an id of its own. The inbox has refused messages without an id.
    public Guid MessageId => context.GetOriginalMessageId() ?? context.MessageId!.Value;

    public Guid? CorrelationId => context.CorrelationId;

    public IReadOnlyDictionary<string, object?> Headers => _headers ??= context.Headers.GetAll().ToDictionary(header => header.Key, header => (object?)header.Value);

    public int Attempt => context.GetRetryAttempt() + 1;

    public Task Respond<T>(T message, CancellationToken cancellationToken = default)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(message);
        cancellationToken.ThrowIfCancellationRequested();
        return context.RespondAsync(message);
    }
}
