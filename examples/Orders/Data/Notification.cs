namespace Orders.Data;

/// <summary>What a customer is told; a real shop would hand it to its mail provider from here.</summary>
public sealed class Notification
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    public required string Text { get; init; }
}
