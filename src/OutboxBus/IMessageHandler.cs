namespace OutboxBus;

/// <summary>
/// Handles messages of one type. Each attempt runs in a service scope, a DbContext and a database transaction of its
/// own; the transaction also records that the message was consumed, so that the handler's effects happen once per
/// message within <see cref="InboxOptions.Retention"/>.
/// </summary>
/// <remarks>
/// Changes made through the scoped DbContext are saved and committed after the handler returns; it need not call
/// <c>SaveChanges</c>. An exception rolls everything back, the recorded messages included.
/// </remarks>
/// <typeparam name="T">The message type; an interface or base class receives every derived message.</typeparam>
public interface IMessageHandler<in T>
    where T : class
{
    /// <summary>Handles one message.</summary>
    Task Handle(T message, IMessageContext context, CancellationToken cancellationToken);
}
