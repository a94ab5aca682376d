namespace Orders.Contracts;

/// <summary>A customer has placed an order.</summary>
public sealed record OrderPlaced(Guid OrderId, string Customer, string Product, int Quantity);

/// <summary>The stock for an order has been set aside.</summary>
public sealed record StockReserved(Guid OrderId, string Customer);

/// <summary>An order will be shipped.</summary>
public sealed record OrderConfirmed(Guid OrderId, string Customer);
