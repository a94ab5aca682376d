namespace OutboxBus;

/// <summary>
/// Publishes and sends messages as part of the caller's unit of work: a message is stored in the same database
/// transaction as the business data and leaves for the broker after that transaction has committed. A transaction that
/// rolls back emits nothing.
/// </summary>
/// <remarks>
/// Scoped. In a controller or service the messages ride the next <c>SaveChanges</c> of the scoped DbContext, or of the one
/// named with <c>Enlist</c>, such as a context from an <c>IDbContextFactory</c>; inside a message handler they ride the
/// handler's own transaction, which is committed for you.
/// </remarks>
public interface IOutboxContext
{
    /// <summary>Publishes to every subscriber of the message type, its base types and its interfaces.</summary>
    /// <param name="message">The message; must not be null.</param>
    /// <param name="options">Ids, headers, delay and lifetime; null for the defaults.</param>
    /// <param name="cancellationToken">Cancels the capture, not the delivery.</param>
    /// <exception cref="ArgumentNullException"><paramref name="message"/> is null.</exception>
    /// <exception cref="MessageTooLargeException">The body or the headers exceed <see cref="PublishingOptions"/>.</exception>
    /// <exception cref="OutboxBusException">The unit of work has already been sealed, or takes no messages.</exception>
    Task Publish<T>(T message, PublishOptions? options = null, CancellationToken cancellationToken = default)
        where T : class;

    /// <summary>Publishes a message as the given type, which decides where it is routed.</summary>
    /// <param name="message">The message; must not be null and must be assignable to <paramref name="messageType"/>.</param>
    /// <param name="messageType">The type to publish as.</param>
    /// <param name="options">Ids, headers, delay and lifetime; null for the defaults.</param>
    /// <param name="cancellationToken">Cancels the capture, not the delivery.</param>
    /// <exception cref="ArgumentException"><paramref name="message"/> is not of <paramref name="messageType"/>.</exception>
    Task Publish(object message, Type messageType, PublishOptions? options = null, CancellationToken cancellationToken = default);

    /// <summary>Sends to one destination.</summary>
    /// <param name="destination">A queue name such as <c>stock</c>, or an absolute URI such as <c>queue:stock</c> or <c>exchange:audit</c>.</param>
    /// <param name="message">The message; must not be null.</param>
    /// <param name="options">Ids, headers, delay and lifetime; null for the defaults.</param>
    /// <param name="cancellationToken">Cancels the capture, not the delivery.</param>
    /// <exception cref="ArgumentException"><paramref name="destination"/> is no queue name and no address of the transport.</exception>
    /// <exception cref="MessageTooLargeException">The body or the headers exceed <see cref="PublishingOptions"/>.</exception>
    Task Send<T>(string destination, T message, SendOptions? options = null, CancellationToken cancellationToken = default)
        where T : class;
}
