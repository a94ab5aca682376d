using System.Diagnostics;

namespace OutboxBus.Tests.Fakes;

/// <summary>Waits for what happens on another thread: polls a condition, and fails when it has not come true in time.</summary>
internal static class Eventually
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);

    public static Task BecomesAsync(Func<bool> condition, string what) => BecomesAsync(() => Task.FromResult(condition()), what);

    public static async Task BecomesAsync(Func<Task<bool>> condition, string what)
    {
        var waiting = Stopwatch.StartNew();
        while (!await condition())
        {
            if (waiting.Elapsed > Limit)
                throw new TimeoutException($"Within {Limit} it has not come true that {what}.");
            await Task.Delay(Pause);
        }
    }

    /// <summary>The task itself, but never waited for without end.</summary>
    public static Task CompletesAsync(Task task) => task.WaitAsync(Limit);
}
