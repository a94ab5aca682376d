using Orders.Contracts;
using Orders.Data;
using OutboxBus;

namespace Orders.Handlers;

/// <summary>The order service: confirms an order once its stock is reserved.</summary>
public sealed class ConfirmOrderHandler(OrdersDb db) : IMessageHandler<StockReserved>
{
    public async Task Handle(StockReserved message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Confirmations.Add(new Confirmation { OrderId = message.OrderId });
        await context.Publish(new OrderConfirmed(message.OrderId, message.Customer), cancellationToken: cancellationToken);
    }
}
