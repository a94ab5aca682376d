namespace Sagas.Data;

/// <summary>The payment service's books: a charge is positive, a refund negative.</summary>
public sealed class PaymentEntry
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    public int Cents { get; init; }
}

/// <summary>What the stock service has.</summary>
public sealed class StockItem
{
    public required string Product { get; init; }

    public int OnHand { get; init; }
}

/// <summary>The stock service's books: what is set aside is negative, what comes back positive.</summary>
public sealed class StockEntry
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    public required string Product { get; init; }

    public int Quantity { get; init; }
}

/// <summary>The shipping service's books: 1 parcel out, -1 recalled.</summary>
public sealed class ParcelEntry
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    public int Parcels { get; init; }
}
