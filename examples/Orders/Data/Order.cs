namespace Orders.Data;

public sealed class Order
{
    public Guid Id { get; init; }

    public required string Customer { get; init; }

    public required string Product { get; init; }

    public int Quantity { get; init; }
}
