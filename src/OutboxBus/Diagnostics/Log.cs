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

    [LoggerMessage(102, LogLevel.Warning, "A message of type {MessageType} was published through the bus itself inside a unit of work: it leaves even if that rolls back. Reported once for this type. Remedy: publish through IOutboxContext, IPublishEndpoint, ISendEndpointProvider or the consume context of the scope; or set Publishing.Bypass.")]
    public static partial void Bypassed(this ILogger logger, string messageType);

    [LoggerMessage(103, LogLevel.Warning, "A handler makes a request of type {MessageType}: its transaction stays open until the answer is there, and the request is made even if it rolls back. Reported once for this type. Remedy: publish or send a message and handle its answer in a handler or saga; or set Publishing.RequestsInHandlers.")]
    public static partial void RequestInHandler(this ILogger logger, string messageType);

    [LoggerMessage(104, LogLevel.Warning, "The rider {Rider} is registered: what its producers send is not captured and leaves even if the transaction rolls back. Remedy: publish to the bus and let a consumer produce; or set Publishing.Bypass to Allow.")]
    public static partial void RiderIsNotCaptured(this ILogger logger, string rider);

    [LoggerMessage(105, LogLevel.Error, "{Count} cancellation(s) of scheduled messages were never saved, among them that of token {Token}: the scope ended without a SaveChanges after them, or it failed. The messages will be sent. Remedy: cancel before SaveChanges.")]
    public static partial void CancellationsNeverSaved(this ILogger logger, int count, Guid token);

    [LoggerMessage(106, LogLevel.Debug, "Cancelled the scheduled messages of {Count} token(s), among them {Token}: {Rows} row(s) deleted, unless the transaction rolls back. What was not there has been sent or cancelled before, or was never scheduled.")]
    public static partial void Cancelled(this ILogger logger, int count, Guid token, int rows);

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

    [LoggerMessage(210, LogLevel.Warning, "Messages of type {MessageType} wait, among them {MessageId}: this process does not know the type. Remedy: register it with AddMessages or AddMessage<T>, or let a process that knows it deliver.")]
    public static partial void UnknownType(this ILogger logger, string messageType, Guid messageId);

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

    [LoggerMessage(302, LogLevel.Warning, "A commit reported an error, but its inbox record ({MessageId}, {Consumer}) is there: it was done.")]
    public static partial void CommitWasDone(this ILogger logger, Guid messageId, string consumer, Exception exception);

    [LoggerMessage(303, LogLevel.Warning, "The inbox record ({MessageId}, {Consumer}) has waited {Elapsed} for a transaction that holds the same one, or for a lock; it goes on waiting.")]
    public static partial void WaitingForCopy(this ILogger logger, Guid messageId, string consumer, TimeSpan elapsed);

    [LoggerMessage(401, LogLevel.Error, "The database of {Database} cannot be opened or does not answer; delivery and purge wait until it does. What was confirmed meanwhile is kept in memory.")]
    public static partial void DatabaseIsAway(this ILogger logger, string database, Exception exception);

    [LoggerMessage(402, LogLevel.Information, "The database of {Database} is back after {Outage}.")]
    public static partial void DatabaseIsBack(this ILogger logger, string database, TimeSpan outage);

    [LoggerMessage(403, LogLevel.Error, "The database of {Database} refuses to take outcomes; they are tried again one by one.")]
    public static partial void SettlementRefused(this ILogger logger, string database, Exception exception);

    [LoggerMessage(404, LogLevel.Warning, "The database of {Database} could not be asked at start; its tables are not checked.")]
    public static partial void SchemaNotChecked(this ILogger logger, string database, Exception exception);

    [LoggerMessage(405, LogLevel.Critical, "The database refuses the outcome of message {MessageId}; its row is left to its lease and the message may be sent again. This is a defect of OutboxBus or of its tables.")]
    public static partial void SettlementGivenUp(this ILogger logger, Guid messageId);

    [LoggerMessage(406, LogLevel.Error, "The database of {Database} refuses a statement of delivery, which goes on trying.")]
    public static partial void StatementRefused(this ILogger logger, string database, Exception exception);

    [LoggerMessage(407, LogLevel.Critical, "{Count} row(s) of {Database} have no readable id and can neither be sent nor given up, among them the row with id {Id}. They stay where they are and hold up nobody. Remedy: repair or delete them.")]
    public static partial void RowsUnreadable(this ILogger logger, int count, string database, long id);

    [LoggerMessage(501, LogLevel.Debug, "Purged {Count} inbox record(s) from {Database}.")]
    public static partial void Purged(this ILogger logger, int count, string database);

    [LoggerMessage(502, LogLevel.Warning, "Inbox records of {Database} could not be purged; tried again later, and not reported again until it has worked.")]
    public static partial void PurgeFailed(this ILogger logger, string database, Exception exception);
}
