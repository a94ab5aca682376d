using Microsoft.EntityFrameworkCore;
using OutboxBus;
using Sagas.Contracts;
using Sagas.Data;

namespace Sagas.Services;

/// <summary>The stock service: sets goods aside as long as there are any.</summary>
public sealed class StockHandler(SagasDb db, IOutboxContext outbox)
    : SimulatedService(db, Service.Stock), IMessageHandler<ReserveStock>, IMessageHandler<ReleaseStock>
{
    public Task Handle(ReserveStock message, IMessageContext context, CancellationToken cancellationToken) => AskedAsync(message.OrderId, cancellationToken);

    public async Task Handle(ReleaseStock message, IMessageContext context, CancellationToken cancellationToken)
    {
        await TakeAsync(message.Product, -message.Quantity, cancellationToken);
        Db.StockEntries.Add(new StockEntry { OrderId = message.OrderId, Product = message.Product, Quantity = message.Quantity });
        await outbox.Publish(new StockReleased(message.OrderId), cancellationToken: cancellationToken);
    }

    protected override async Task AcceptAsync(Order order, CancellationToken cancellationToken)
    {
        if (!await TakeAsync(order.Product, order.Quantity, cancellationToken))
        {
            await RefuseAsync(order, cancellationToken);
            return;
        }

        Db.StockEntries.Add(new StockEntry { OrderId = order.Id, Product = order.Product, Quantity = -order.Quantity });
        await outbox.Publish(new StockReserved(order.Id), cancellationToken: cancellationToken);
    }

    protected override Task RefuseAsync(Order order, CancellationToken cancellationToken)
        => outbox.Publish(new OutOfStock(order.Id), cancellationToken: cancellationToken);

    /// <summary>One statement, so that no two orders take the same piece.</summary>
    private async Task<bool> TakeAsync(string product, int quantity, CancellationToken cancellationToken)
        => await Db.Stock.Where(item => item.Product == product && item.OnHand >= quantity)
            .ExecuteUpdateAsync(item => item.SetProperty(row => row.OnHand, row => row.OnHand - quantity), cancellationToken) > 0;
}
