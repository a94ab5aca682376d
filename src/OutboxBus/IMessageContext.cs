namespace OutboxBus;

/// <summary>
/// What a handler knows of the message it is handling. Whatever it publishes, sends or answers through this context is
/// stored in the handler's transaction and leaves after that has committed.
/// </summary>
public interface IMessageContext : IOutboxContext
{
    /// <summary>The message's id: the same on every delivery of the message.</summary>
    Guid MessageId { get; }

    /// <summary>The id that ties the messages of one business process together, if the sender gave one.</summary>
    Guid? CorrelationId { get; }

    /// <summary>The headers the sender set.</summary>
    IReadOnlyDictionary<string, object?> Headers { get; }

    /// <summary>1 at the first attempt, 2 at the first retry, and so on. Redeliveries by the broker start again at 1.</summary>
    int Attempt { get; }

    /// <summary>Answers the sender's request.</summary>
    /// <exception cref="ArgumentNullException"><paramref name="message"/> is null.</exception>
    Task Respond<T>(T message, CancellationToken cancellationToken = default)
        where T : class;
}
