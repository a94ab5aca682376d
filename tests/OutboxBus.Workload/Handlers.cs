using Microsoft.EntityFrameworkCore;

namespace OutboxBus.Workload;

public sealed record OrderPlaced(Guid OrderId);

public sealed record StockReserved(Guid OrderId);

public sealed class ReserveStockHandler(LedgerDb db, IDbContextFactory<LedgerDb> outside) : IMessageHandler<OrderPlaced>
{
    /// <summary>The handler's queue, by the naming convention.</summary>
    public const string Queue = "reserve-stock";

    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        await using (var entry = await outside.CreateDbContextAsync(cancellationToken))
        {
            entry.Add(new HandlerEntry { OrderId = message.OrderId });
            await entry.SaveChangesAsync(cancellationToken);
        }

        db.Add(new Reservation { OrderId = message.OrderId });
        await context.Publish(new StockReserved(message.OrderId), cancellationToken: cancellationToken);
    }
}

public sealed class ConfirmOrderHandler(LedgerDb db) : IMessageHandler<StockReserved>
{
    public Task Handle(StockReserved message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Add(new Confirmation { OrderId = message.OrderId });
        return Task.CompletedTask;
    }
}
