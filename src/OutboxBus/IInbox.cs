namespace OutboxBus;

/// <summary>What operators and tests ask of the inbox; a singleton of the container.</summary>
public interface IInbox
{
    /// <summary>
    /// Forgets that a message was consumed, so that it is consumed again when it is delivered again, as after a mistake in
    /// a handler was corrected. All or nothing in one statement; a consumption under way is not affected.
    /// </summary>
    /// <param name="messageId">The message's id.</param>
    /// <param name="consumer">Who is to forget it, as in <see cref="InboxMessage.Consumer"/>; null: every consumer.</param>
    /// <param name="cancellationToken">Cancels the statement.</param>
    /// <returns>The number of records removed; a message redelivered deliberately has one for each time.</returns>
    Task<int> ForgetAsync(Guid messageId, string? consumer = null, CancellationToken cancellationToken = default);

    /// <summary>Whether a consumer has consumed a message and still remembers it.</summary>
    /// <param name="messageId">The message's id.</param>
    /// <param name="consumer">Who, as in <see cref="InboxMessage.Consumer"/>.</param>
    /// <param name="cancellationToken">Cancels the query.</param>
    Task<bool> IsConsumedAsync(Guid messageId, string consumer, CancellationToken cancellationToken = default);
}
