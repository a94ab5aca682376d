using OutboxBus.Storage;

namespace OutboxBus.Consuming;

/// <summary>The inbox table as operators see it.</summary>
internal sealed class Inbox(IOutboxDatabase database) : IInbox
{
    private readonly OutboxStore _store = new(database);

    public Task<int> ForgetAsync(Guid messageId, string? consumer = null, CancellationToken cancellationToken = default)
        => _store.ForgetConsumedAsync(messageId, consumer, cancellationToken);

    public Task<bool> IsConsumedAsync(Guid messageId, string consumer, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(consumer);
        return _store.IsConsumedAsync(new InboxKey(messageId, consumer), cancellationToken);
    }
}
