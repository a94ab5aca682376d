namespace Sagas.Contracts;

/// <summary>A customer has submitted an order: the saga begins.</summary>
public sealed record OrderSubmitted(Guid OrderId, string Customer, string Product, int Quantity, int Cents);

// What the saga asks of the services, and what they answer.

public sealed record RequestPayment(Guid OrderId, int Cents);

public sealed record PaymentAccepted(Guid OrderId);

public sealed record PaymentRefused(Guid OrderId);

public sealed record ReserveStock(Guid OrderId, string Product, int Quantity);

public sealed record StockReserved(Guid OrderId);

public sealed record OutOfStock(Guid OrderId);

public sealed record ShipOrder(Guid OrderId, string Customer);

public sealed record OrderShipped(Guid OrderId);

public sealed record ShippingRefused(Guid OrderId);

// Compensation: what was done is undone.

public sealed record RefundPayment(Guid OrderId, int Cents);

public sealed record PaymentRefunded(Guid OrderId);

public sealed record ReleaseStock(Guid OrderId, string Product, int Quantity);

public sealed record StockReleased(Guid OrderId);

public sealed record RecallParcel(Guid OrderId);

public sealed record ParcelRecalled(Guid OrderId);

/// <summary>Scheduled by the saga with each question, and taken back with its answer.</summary>
public sealed record AnswerOverdue(Guid OrderId);
