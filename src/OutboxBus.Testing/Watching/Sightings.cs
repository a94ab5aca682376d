namespace OutboxBus.Testing.Watching;

/// <summary>A list that grows, and wakes those who wait for it to.</summary>
internal sealed class Sightings<T>
{
    private readonly Lock _lock = new();
    private readonly List<T> _all = [];
    private TaskCompletionSource _more = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public IReadOnlyList<T> All
    {
        get
        {
            lock (_lock)
                return [.. _all];
        }
    }

    /// <summary>Completes when the list has grown since it was asked for.</summary>
    public Task More
    {
        get
        {
            lock (_lock)
                return _more.Task;
        }
    }

    public void Add(T item)
    {
        TaskCompletionSource more;
        lock (_lock)
        {
            _all.Add(item);
            more = _more;
            _more = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        more.SetResult();
    }
}
