using Xunit.Sdk;

namespace OutboxBus.Conformance.Tests;

public static class Eventually
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(20);

    public static async Task BecomesAsync(Func<Task<bool>> condition, string expectation)
    {
        using var limit = new CancellationTokenSource(s_limit);
        using var interval = new PeriodicTimer(s_interval);
        while (!await condition())
        {
            try
            {
                await interval.WaitForNextTickAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                throw new XunitException($"Within {s_limit} it did not become true that {expectation}.");
            }
        }
    }
}
