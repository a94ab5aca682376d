using Orders.Contracts;
using Orders.Data;
using OutboxBus;

namespace Orders.Handlers;

/// <summary>The stock service: sets goods aside for an order.</summary>
public sealed class ReserveStockHandler(OrdersDb db) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Reservations.Add(new StockReservation
        {
            OrderId = message.OrderId,
            MessageId = context.MessageId,
            Product = message.Product,
            Quantity = message.Quantity,
        });
        // Part of the same transaction as the reservation, which is committed after this method returns.
        await context.Publish(new StockReserved(message.OrderId, message.Customer), cancellationToken: cancellationToken);
    }
}
