using OutboxBus;
using Sagas.Contracts;
using Sagas.Data;

namespace Sagas.Services;

/// <summary>The shipping service.</summary>
public sealed class ShippingHandler(SagasDb db, IOutboxContext outbox)
    : SimulatedService(db, Service.Shipping), IMessageHandler<ShipOrder>, IMessageHandler<RecallParcel>
{
    public Task Handle(ShipOrder message, IMessageContext context, CancellationToken cancellationToken) => AskedAsync(message.OrderId, cancellationToken);

    public async Task Handle(RecallParcel message, IMessageContext context, CancellationToken cancellationToken)
    {
        Db.Parcels.Add(new ParcelEntry { OrderId = message.OrderId, Parcels = -1 });
        await outbox.Publish(new ParcelRecalled(message.OrderId), cancellationToken: cancellationToken);
    }

    protected override async Task AcceptAsync(Order order, CancellationToken cancellationToken)
    {
        Db.Parcels.Add(new ParcelEntry { OrderId = order.Id, Parcels = 1 });
        await outbox.Publish(new OrderShipped(order.Id), cancellationToken: cancellationToken);
    }

    protected override Task RefuseAsync(Order order, CancellationToken cancellationToken)
        => outbox.Publish(new ShippingRefused(order.Id), cancellationToken: cancellationToken);
}
