namespace OutboxBus.Testing;

/// <summary>A message that the application has published or sent.</summary>
/// <param name="Message">The message object.</param>
/// <param name="MessageId">Its id.</param>
/// <param name="Destination">The address it was sent to; null: it was published.</param>
/// <param name="DueAt">When it was to be sent, UTC; null: at once.</param>
/// <param name="ScheduleToken">The token by which it can be cancelled; null: none.</param>
/// <param name="Headers">Its headers.</param>
public sealed record HarnessMessage(object Message, Guid MessageId, string? Destination, DateTime? DueAt, Guid? ScheduleToken, IReadOnlyDictionary<string, object?> Headers);

/// <summary>A message at one of its consumers.</summary>
/// <param name="Message">The message object as the consumer saw it; a batch for a consumer of batches.</param>
/// <param name="MessageId">Its id, by which the inbox knows it; of a batch that of its first message.</param>
/// <param name="Consumer">The class of the consumer, handler, saga or activity.</param>
/// <param name="IsDuplicate">Whether it had consumed the message before, and nothing was done.</param>
/// <param name="Exception">Why its transaction was rolled back; null: it was committed. Each attempt is listed.</param>
public sealed record ConsumedMessage(object Message, Guid MessageId, string Consumer, bool IsDuplicate, Exception? Exception);
