namespace OutboxBus.Delivery;

/// <summary>
/// A level-triggered signal with a timeout on the process's <see cref="TimeProvider"/>. The waiter resets it before it
/// looks for work, so that a signal between looking and waiting is never lost.
/// </summary>
internal sealed class WakeUp(TimeProvider time)
{
    private TaskCompletionSource _signal = NewSignal();

    public void Set() => Volatile.Read(ref _signal).TrySetResult();

    public void Reset()
    {
        if (_signal.Task.IsCompleted)
            Volatile.Write(ref _signal, NewSignal());
    }

    /// <summary>Returns when signalled, when the timeout has passed, or when cancelled; never throws.</summary>
    public async Task WaitAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        var signal = _signal.Task;
        if (signal.IsCompleted || timeout <= TimeSpan.Zero)
            return;
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        await Task.WhenAny(signal, Task.Delay(timeout, time, ended.Token));
        await ended.CancelAsync();
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
