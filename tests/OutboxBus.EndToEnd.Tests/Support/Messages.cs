namespace OutboxBus.EndToEnd.Tests.Support;

public interface IOrderEvent
{
    Guid OrderId { get; }
}

public sealed record OrderPlaced(Guid OrderId) : IOrderEvent;

public sealed record StockReserved(Guid OrderId);

public sealed record ReserveStock(Guid OrderId);

public sealed record PriceAsked(Guid OrderId);

public sealed record PriceTold(Guid OrderId, decimal Price);
