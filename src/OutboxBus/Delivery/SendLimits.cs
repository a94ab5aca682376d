namespace OutboxBus.Delivery;

/// <summary>
/// The time limit of a send, shared by those that begin at about the same time: a timer for each would cost more than all
/// else that the core does for it. A limit is up to a twentieth shorter than asked for, never longer.
/// </summary>
internal sealed class SendLimits(TimeSpan limit, TimeProvider time)
{
    private const int Parts = 20;

    private readonly Lock _lock = new();
    private readonly Queue<CancellationTokenSource> _running = new();
    private CancellationToken _latest;
    private long _latestBegan;
    private CancellationToken _abort;

    /// <summary>The token of a send that begins now: cancelled at its limit, or when all are aborted.</summary>
    /// <param name="abort">Aborts all sends; the same for each.</param>
    public CancellationToken Begin(CancellationToken abort)
    {
        lock (_lock)
        {
            if (_running.Count == 0 || time.GetElapsedTime(_latestBegan) >= limit / Parts)
                Renew(abort);
            return _latest;
        }
    }

    private void Renew(CancellationToken abort)
    {
        while (_running.TryPeek(out var oldest) && oldest.IsCancellationRequested)
            _running.Dequeue().Dispose();
        var latest = new CancellationTokenSource(limit, time);
        _running.Enqueue(latest);
        (_latest, _latestBegan) = (latest.Token, time.GetTimestamp());
        if (_abort != abort)
            abort.Register(Abort);
        _abort = abort;
        if (abort.IsCancellationRequested)
            latest.Cancel();
    }

    private void Abort()
    {
        CancellationTokenSource[] running;
        lock (_lock)
            running = [.. _running];
        foreach (var source in running)
            source.Cancel();
    }
}
