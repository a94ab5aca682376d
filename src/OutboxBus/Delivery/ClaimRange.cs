namespace OutboxBus.Delivery;

/// <summary>
/// How far back claims look. Usually at everything. But where a database cannot remove what was deleted, as PostgreSQL cannot
/// while any session holds an old snapshot, a claim passes all that was ever sent to find the few rows that are due. Then most
/// claims look only at what has become claimable since the last one that looked at everything. Pure bookkeeping: no waiting, no I/O.
/// </summary>
internal sealed class ClaimRange(DeliveryOptions options, TimeProvider time)
{
    // Looking at everything may take up to this part of the time.
    private const int Share = 20;

    // Below this it is not worth any row's waiting.
    private static readonly TimeSpan Cheap = TimeSpan.FromMilliseconds(10);

    // Rows become claimable by the database's clock and at the moment of the insert, and visible with the commit.
    private static readonly TimeSpan Margin = TimeSpan.FromSeconds(1);

    private long _lookedAt;
    private TimeSpan _pause;

    /// <summary>What the next claim looks at: rows that have become claimable within this time; null: all.</summary>
    public TimeSpan? Next()
    {
        var since = time.GetElapsedTime(_lookedAt);
        return since < _pause ? since + Margin : null;
    }

    /// <summary>A claim has looked at everything.</summary>
    /// <param name="started">When it began, as a timestamp of the process's clock.</param>
    /// <param name="claimed">How many rows it has found.</param>
    /// <param name="limit">How many it asked for.</param>
    public void Looked(long started, int claimed, int limit)
    {
        var cost = time.GetElapsedTime(started);
        // Many rows have their price; a full batch means that there is more.
        var isForNothing = claimed <= limit / 10 && claimed < limit && cost >= Cheap;
        _lookedAt = started;
        _pause = !isForNothing ? TimeSpan.Zero : cost * Share < options.Lease ? cost * Share : options.Lease;
    }
}
