namespace Sagas.Data;

/// <summary>What the customer wants.</summary>
public sealed class Order
{
    public Guid Id { get; init; }

    public required string Customer { get; init; }

    public required string Product { get; init; }

    public int Quantity { get; init; }

    /// <summary>The price of all of it.</summary>
    public int Cents { get; init; }
}
