namespace OutboxBus.Testing;

/// <summary>What of the application the harness leaves as it is.</summary>
public sealed class OutboxBusTestHarnessOptions
{
    internal bool ReplacesDatabase { get; private set; } = true;

    /// <summary>How long <c>DrainAsync</c> and the waits on the lists take at most before they fail; default 10 s, positive.</summary>
    public TimeSpan TimeLimit { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Keeps the application's own database, which must be reachable and have the tables; default: a fresh SQLite database in memory.</summary>
    public OutboxBusTestHarnessOptions KeepDatabase()
    {
        ReplacesDatabase = false;
        return this;
    }
}
