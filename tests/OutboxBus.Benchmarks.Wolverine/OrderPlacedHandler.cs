using OutboxBus.Benchmarks.Contestants;

namespace OutboxBus.Benchmarks.Wolverine;

public static class OrderPlacedHandler
{
    // Wolverine's transactional middleware opens the transaction, saves, marks the inbox row as handled and commits.
    public static OrderShipped Handle(OrderPlaced message, ShopDb db)
    {
        ArgumentNullException.ThrowIfNull(message);
        ArgumentNullException.ThrowIfNull(db);
        db.Shipments.Add(new Shipment { Id = Guid.CreateVersion7(), OrderId = message.OrderId, Reference = message.Reference });
        return new OrderShipped(message.OrderId, message.Reference, "Royal Mail", DateTimeOffset.UtcNow);
    }
}
