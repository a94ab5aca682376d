namespace OutboxBus.TestServers;

/// <summary>Waits for what other threads and processes will have done: bounded, so that a lost message fails its test instead of hanging it.</summary>
public static class Eventually
{
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    /// <summary>Reads until the value is as expected and returns it; fails with the last value seen.</summary>
    public static async Task<T> BecomesAsync<T>(Func<Task<T>> read, Func<T, bool> expected, string what)
    {
        using var limit = new CancellationTokenSource(Limit);
        using var timer = new PeriodicTimer(Pause);
        while (true)
        {
            var value = await read();
            if (expected(value))
                return value;
            try
            {
                await timer.WaitForNextTickAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"Not within {Limit}: {what}. Last seen: {value}");
            }
        }
    }

    public static Task BecomesAsync(Func<Task<bool>> condition, string what) => BecomesAsync<bool>(condition, value => value, what);

    public static Task BecomesAsync(Func<bool> condition, string what) => BecomesAsync(() => Task.FromResult(condition()), value => value, what);

    /// <summary>The task itself, but never waited for without end.</summary>
    public static Task CompletesAsync(Task task) => task.WaitAsync(Limit);
}
