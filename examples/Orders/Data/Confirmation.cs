namespace Orders.Data;

public sealed class Confirmation
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }
}
