using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;

namespace OutboxBus.Publishing;

/// <summary>
/// Lives as long as its service scope. When the scope ends with messages that were captured but never saved, it says so:
/// such a publish would otherwise be lost in silence.
/// </summary>
internal sealed class UnsavedMessageGuard(IUnitOfWorkSource source, PublishingOptions options, OutboxMetrics metrics, ILogger<UnsavedMessageGuard> logger) : IDisposable
{
    public void Dispose()
    {
        var unsaved = source.Unsaved;
        if (unsaved.Count == 0)
            return;

        metrics.Unsaved(unsaved.Count);
        var firstType = unsaved.First().MessageType;
        if (options.Unsaved != UnsavedMessages.Allow)
            logger.MessagesNeverSaved(unsaved.Count, firstType);
        if (options.Unsaved == UnsavedMessages.Throw)
        {
            throw new OutboxBusException(
                $"{unsaved.Count} captured message(s) were never saved, among them one of type {firstType}. Publish before SaveChanges, on the scope's DbContext or one enlisted with IOutboxContext.Enlist.");
        }
    }
}
