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

    /// <summary>Publishes at a later time: the message waits in the database, and can be taken back until it is sent.</summary>
    /// <param name="message">The message; must not be null.</param>
    /// <param name="dueAt">When it leaves; past: at once.</param>
    /// <param name="options">As for <see cref="Publish{T}"/>, without a time of their own; <see cref="MessageOptions.ScheduleToken"/> names the token.</param>
    /// <param name="cancellationToken">Cancels the capture, not the delivery.</param>
    /// <returns>The token for <see cref="CancelScheduled"/>: the one given, or a new one.</returns>
    /// <exception cref="ArgumentException">The options contradict each other.</exception>
    Task<Guid> SchedulePublish<T>(T message, DateTimeOffset dueAt, PublishOptions? options = null, CancellationToken cancellationToken = default)
        where T : class;

    /// <summary>Sends at a later time; see <see cref="SchedulePublish{T}"/>.</summary>
    /// <param name="destination">As for <see cref="Send{T}"/>.</param>
    /// <param name="message">The message; must not be null.</param>
    /// <param name="dueAt">When it leaves; past: at once.</param>
    /// <param name="options">As for <see cref="Send{T}"/>, without a time of their own; <see cref="MessageOptions.ScheduleToken"/> names the token.</param>
    /// <param name="cancellationToken">Cancels the capture, not the delivery.</param>
    /// <returns>The token for <see cref="CancelScheduled"/>: the one given, or a new one.</returns>
    /// <exception cref="ArgumentException">The destination is none, or the options contradict each other.</exception>
    Task<Guid> ScheduleSend<T>(string destination, T message, DateTimeOffset dueAt, SendOptions? options = null, CancellationToken cancellationToken = default)
        where T : class;

    /// <summary>
    /// Takes back what was scheduled with a token, as part of the same unit of work: with the next <c>SaveChanges</c>, or when
    /// the handler's transaction commits. If that rolls back, the messages stay. Nothing happens if there are none: they may
    /// have been sent. A message whose time has come while the transaction is open may be sent all the same.
    /// </summary>
    /// <param name="scheduleToken">The token.</param>
    /// <param name="cancellationToken">Cancels the call.</param>
    /// <exception cref="OutboxBusException">The unit of work has already been sealed.</exception>
    Task CancelScheduled(Guid scheduleToken, CancellationToken cancellationToken = default);
}
