
namespace OutboxBus.Benchmarks.Contestants.Wolverine;

public static class OrderPlacedHandler
{
    // Wolverine's transactional middleware opens the transaction, saves, marks the inbox row as handled and commits.
    public static OrderShipped Handle(OrderPlaced message, WolverineShopDb db)
    {
        ArgumentNullException.ThrowIfNull(message);
        ArgumentNullException.ThrowIfNull(db);
        db.Shipments.Add(Samples.Shipment(message));
        return Samples.Shipped(message);
    }
}
