namespace OutboxBus.Benchmarks;

// How much of everything.
internal sealed record Scale(int Repetitions, int Orders, int BatchedOrders, int Consumed, int Backlog, TimeSpan Latency, IReadOnlyList<int> Sizes, int Churn, IReadOnlyList<int> Instances)
{
    public static Scale Full { get; } = new(5, 10_000, 2_000, 8_000, 100_000, TimeSpan.FromSeconds(6), [1_000, 100_000, 5_000_000], 200_000, [1, 2, 4, 8]);

    // Two minutes: for a first look.
    public static Scale Quick { get; } = new(1, 1_500, 300, 1_000, 10_000, TimeSpan.FromSeconds(2), [1_000, 100_000], 20_000, [1, 4]);

    // Seconds: shows that everything still works, and measures nothing.
    public static Scale Tiny { get; } = new(1, 100, 20, 100, 1_000, TimeSpan.FromSeconds(1), [1_000, 2_000], 10_000, [1, 2]);
}
