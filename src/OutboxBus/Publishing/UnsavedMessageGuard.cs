using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;

namespace OutboxBus.Publishing;

/// <summary>
/// Lives as long as its service scope. When the scope ends with messages that were captured but never saved, it says so:
/// such a publish would otherwise be lost in silence.
/// </summary>
internal sealed class UnsavedMessageGuard(IUnitOfWorkSource source, PublishingOptions options, OutboxMetrics metrics, ILogger<UnsavedMessageGuard> logger, OutboxWatch? watch = null) : IDisposable
{
    public void Dispose()
    {
        var cancellations = source.UnsavedCancellations;
        if (cancellations.Count > 0 && options.Unsaved != UnsavedMessages.Allow)
            logger.CancellationsNeverSaved(cancellations.Count, cancellations.First());

        var unsaved = source.Unsaved;
        if (unsaved.Count > 0)
        {
            metrics.Unsaved(unsaved.Count);
            watch?.Unsaved(unsaved);
            if (options.Unsaved != UnsavedMessages.Allow)
                logger.MessagesNeverSaved(unsaved.Count, unsaved.First().MessageType);
        }

        if (options.Unsaved == UnsavedMessages.Throw)
            Throw(unsaved, cancellations);
    }

    private static void Throw(IReadOnlyCollection<Envelope> unsaved, IReadOnlyCollection<Guid> cancellations)
    {
        if (unsaved.Count > 0)
        {
            throw new OutboxBusException(
                $"{unsaved.Count} captured message(s) were never saved, among them one of type {unsaved.First().MessageType}. Publish before SaveChanges, on the scope's DbContext or one enlisted with IOutboxContext.Enlist.");
        }

        if (cancellations.Count > 0)
            throw new OutboxBusException($"{cancellations.Count} cancellation(s) of scheduled messages were never saved, among them that of token {cancellations.First()}. Cancel before SaveChanges.");
    }
}
