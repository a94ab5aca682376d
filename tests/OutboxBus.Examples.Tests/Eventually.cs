using System.Diagnostics;

namespace OutboxBus.Examples.Tests;

internal static class Eventually
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(50);

    // Waits for what another process does: there is no signal to wait for, so the condition is polled.
    public static async Task BecomesAsync(Func<Task<bool>> condition)
    {
        var started = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            if (Stopwatch.GetElapsedTime(started) > s_limit)
                throw new TimeoutException($"The condition did not come true within {s_limit}.");
            await Task.Delay(s_interval);
        }
    }
}
