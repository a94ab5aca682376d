using Orders.Contracts;
using Orders.Data;
using OutboxBus;

namespace Orders.Handlers;

/// <summary>Tells the customer. A second subscriber of <see cref="OrderPlaced"/>: each one consumes it once.</summary>
public sealed class NotifyCustomerHandler(OrdersDb db) : IMessageHandler<OrderPlaced>, IMessageHandler<OrderConfirmed>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        => Tell(message.OrderId, $"Dear {message.Customer}, we have received your order.");

    public Task Handle(OrderConfirmed message, IMessageContext context, CancellationToken cancellationToken)
        => Tell(message.OrderId, $"Dear {message.Customer}, your order is confirmed.");

    private Task Tell(Guid orderId, string text)
    {
        db.Notifications.Add(new Notification { OrderId = orderId, Text = text });
        return Task.CompletedTask;
    }
}
