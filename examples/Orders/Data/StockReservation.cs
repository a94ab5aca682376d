namespace Orders.Data;

public sealed class StockReservation
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    /// <summary>The message that asked for it: answers "why is this reserved?" in support cases.</summary>
    public Guid MessageId { get; init; }

    public required string Product { get; init; }

    public int Quantity { get; init; }
}
