namespace OutboxBus.Testing;

/// <summary>Messages that have come to a certain point, in the order in which they did.</summary>
/// <typeparam name="TEntry">What is known of each.</typeparam>
public sealed class MessageList<TEntry>
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    private readonly string _name;
    private readonly Func<IReadOnlyList<TEntry>> _all;
    private readonly Func<TEntry, object> _message;
    private readonly Func<Task> _more;
    private readonly TimeSpan _limit;

    internal MessageList(string name, Func<IReadOnlyList<TEntry>> all, Func<TEntry, object> message, Func<Task>? more, TimeSpan limit)
    {
        _name = name;
        _all = all;
        _message = message;
        // What is read from the database is looked at again and again.
        _more = more ?? (() => Task.Delay(Pause, TimeProvider.System));
        _limit = limit;
    }

    /// <summary>All of them.</summary>
    public IReadOnlyList<TEntry> All => _all();

    /// <summary>The messages of a type, or of one derived from it.</summary>
    public IReadOnlyList<T> Of<T>()
        where T : class => [.. All.Select(_message).OfType<T>()];

    /// <summary>What is known of the messages of a type, or of one derived from it.</summary>
    public IReadOnlyList<TEntry> EntriesOf<T>()
        where T : class => [.. All.Where(entry => _message(entry) is T)];

    /// <summary>Whether there is a message of a type for which a condition holds.</summary>
    /// <param name="condition">Null: any will do.</param>
    public bool Any<T>(Func<T, bool>? condition = null)
        where T : class => Of<T>().Any(message => condition?.Invoke(message) ?? true);

    /// <summary>Waits for a message of a type for which a condition holds, and returns the first.</summary>
    /// <param name="condition">Null: any will do.</param>
    /// <exception cref="OutboxBusException">None has come within the harness's time limit.</exception>
    public async Task<T> WaitForAsync<T>(Func<T, bool>? condition = null)
        where T : class
    {
        using var limit = new CancellationTokenSource(_limit);
        while (true)
        {
            var more = _more();
            if (Of<T>().FirstOrDefault(message => condition?.Invoke(message) ?? true) is { } found)
                return found;
            try
            {
                await more.WaitAsync(limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (limit.IsCancellationRequested)
            {
                var seen = All.Select(entry => _message(entry).GetType().Name).GroupBy(name => name).Select(type => $"{type.Count()} {type.Key}");
                throw new OutboxBusException($"No {typeof(T).Name} that fits was {_name} within {_limit}. There were: {string.Join(", ", seen.DefaultIfEmpty("none at all"))}.");
            }
        }
    }
}
