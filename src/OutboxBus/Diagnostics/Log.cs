using Microsoft.Extensions.Logging;

namespace OutboxBus.Diagnostics;

/// <summary>
/// Every log message of the core. Event ids: 1xx publishing, 2xx delivery, 3xx consuming, 4xx storage, 5xx retention.
/// Bodies, header values and connection strings are never logged.
/// </summary>
internal static partial class Log
{
    [LoggerMessage(101, LogLevel.Error, "{Count} captured message(s) were never saved, among them {MessageType}: the scope ended without a SaveChanges after the publish, or it failed. They are not sent. Remedy: publish before SaveChanges, on the scope's DbContext or one enlisted with IOutboxContext.Enlist.")]
    public static partial void MessagesNeverSaved(this ILogger logger, int count, string messageType);

    [LoggerMessage(201, LogLevel.Information, "Delivery of bus {Bus} from {Database} has started.")]
    public static partial void DeliveryStarted(this ILogger logger, string bus, string database);

    [LoggerMessage(202, LogLevel.Information, "Delivery of bus {Bus} has stopped.")]
    public static partial void DeliveryStopped(this ILogger logger, string bus);

    [LoggerMessage(203, LogLevel.Information, "Delivery of bus {Bus} is off in this process; others on the same database send its messages.")]
    public static partial void DeliveryIsOff(this ILogger logger, string bus);

    [LoggerMessage(204, LogLevel.Debug, "Claimed {Count} message(s) from {Database}.")]
    public static partial void Claimed(this ILogger logger, int count, string database);

    [LoggerMessage(205, LogLevel.Debug, "Delivered message {MessageId} of type {MessageType}.")]
    public static partial void Delivered(this ILogger logger, Guid messageId, string messageType);

    [LoggerMessage(206, LogLevel.Warning, "Message {MessageId} of type {MessageType} was not accepted at attempt {Attempt}.")]
    public static partial void Retrying(this ILogger logger, Guid messageId, string messageType, int attempt, Exception? exception);

    [LoggerMessage(207, LogLevel.Error, "Message {MessageId} of type {MessageType} is now a dead letter ({Reason}) after {Attempts} attempt(s): {Error}")]
    public static partial void DeadLettered(this ILogger logger, Guid messageId, string messageType, DeadLetterReason reason, int attempts, string? error);

    [LoggerMessage(208, LogLevel.Error, "The transport of bus {Bus} failed. Messages wait in the database and lose no attempt; probing until it is back.")]
    public static partial void TransportFailed(this ILogger logger, string bus, Exception? exception);

    [LoggerMessage(209, LogLevel.Information, "The transport of bus {Bus} is back.")]
    public static partial void TransportIsBack(this ILogger logger, string bus);

    [LoggerMessage(210, LogLevel.Warning, "Message {MessageId} has type {MessageType}, which this process does not know; it waits. Remedy: register the type with AddMessages or AddMessage<T>, or let a process that knows it deliver.")]
    public static partial void UnknownType(this ILogger logger, Guid messageId, string messageType);

    [LoggerMessage(211, LogLevel.Warning, "The host stopped before {Count} message(s) of {Database} were settled; they are sent after the next start.")]
    public static partial void StopLeftMessages(this ILogger logger, int count, string database);

    [LoggerMessage(212, LogLevel.Critical, "Sending message {MessageId} ended in an unexpected error; its row is left to its lease. This is a defect of OutboxBus.")]
    public static partial void DeliveryDefect(this ILogger logger, Guid messageId, Exception exception);

    [LoggerMessage(213, LogLevel.Warning, "Fresh rows are leased for {FreshRowLease}, which is too short for a send of up to {SendTimeout}: every message waits to be claimed. Remedy: a longer FreshRowLease in modelBuilder.AddOutboxBus (and a migration), or a shorter Delivery.SendTimeout.")]
    public static partial void FreshRowLeaseTooShort(this ILogger logger, TimeSpan freshRowLease, TimeSpan sendTimeout);

    [LoggerMessage(214, LogLevel.Critical, "A turn of the delivery of bus {Bus} ended in an unexpected error; delivery goes on. This is a defect of OutboxBus.")]
    public static partial void TurnFailed(this ILogger logger, string bus, Exception exception);

    [LoggerMessage(301, LogLevel.Debug, "Message {MessageId} was consumed by {Consumer} before; acknowledged without effect.")]
    public static partial void Duplicate(this ILogger logger, Guid messageId, string consumer);

    [LoggerMessage(302, LogLevel.Warning, "The commit of message {MessageId} for {Consumer} reported an error, but its inbox record is there: it has been consumed.")]
    public static partial void CommitWasDone(this ILogger logger, Guid messageId, string consumer, Exception exception);

    [LoggerMessage(303, LogLevel.Warning, "Message {MessageId} has waited {Elapsed} for another copy of it that {Consumer} is handling, or for a lock; it goes on waiting.")]
    public static partial void WaitingForCopy(this ILogger logger, Guid messageId, string consumer, TimeSpan elapsed);

    [LoggerMessage(401, LogLevel.Error, "The database of {Database} cannot be read; delivery waits until it is back.")]
    public static partial void DatabaseFailed(this ILogger logger, string database, Exception exception);

    [LoggerMessage(402, LogLevel.Information, "The database of {Database} is back.")]
    public static partial void DatabaseIsBack(this ILogger logger, string database);

    [LoggerMessage(403, LogLevel.Error, "Outcomes could not be written to the database of {Database}; they are kept and written when it is back.")]
    public static partial void SettlementFailed(this ILogger logger, string database, Exception exception);

    [LoggerMessage(404, LogLevel.Warning, "The database of {Database} could not be asked at start; its tables are not checked.")]
    public static partial void SchemaNotChecked(this ILogger logger, string database, Exception exception);

    [LoggerMessage(405, LogLevel.Critical, "The database refuses the outcome of message {MessageId}; its row is left to its lease and the message may be sent again. This is a defect of OutboxBus or of its tables.")]
    public static partial void SettlementGivenUp(this ILogger logger, Guid messageId);

    [LoggerMessage(501, LogLevel.Debug, "Purged {Count} inbox record(s) from {Database}.")]
    public static partial void Purged(this ILogger logger, int count, string database);

    [LoggerMessage(502, LogLevel.Warning, "Inbox records of {Database} could not be purged; tried again later.")]
    public static partial void PurgeFailed(this ILogger logger, string database, Exception exception);
}
