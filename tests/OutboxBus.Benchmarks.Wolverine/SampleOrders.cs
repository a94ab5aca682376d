using OutboxBus.Benchmarks.Contestants;

namespace OutboxBus.Benchmarks.Wolverine;

// About 300 bytes of JSON.
internal static class SampleOrders
{
    internal const string Customer = "Ada Lovelace, Analytical Engines and Company, London";

    internal const string Address = "12 St James's Square, London SW1Y 4JH, United Kingdom, second floor, ring twice";

    internal const decimal Amount = 129.95m;

    internal static OrderPlaced Placed(Guid order, string reference)
        => new(order, reference, Customer, Address, Amount, DateTimeOffset.UtcNow);
}
