namespace OutboxBus;

/// <summary>The options of one bus and its outbox. Everything is validated when the host starts, all errors together.</summary>
public sealed class OutboxBusOptions
{
    /// <summary>What may be captured, and what happens to messages that are never saved.</summary>
    public PublishingOptions Publishing { get; } = new();

    /// <summary>How stored messages are sent to the broker.</summary>
    public DeliveryOptions Delivery { get; } = new();

    /// <summary>How consumed messages are remembered.</summary>
    public InboxOptions Inbox { get; } = new();

    /// <summary>When the health check reports trouble.</summary>
    public HealthOptions Health { get; } = new();
}

/// <summary>What may be captured, and what happens to messages that are never saved.</summary>
public sealed class PublishingOptions
{
    /// <summary>The largest serialized body in bytes; default 262,144 (256 KiB), range 1 to 67,108,864 (64 MiB). Checked before the insert.</summary>
    public int MaxBodyBytes { get; set; } = 256 * 1024;

    /// <summary>The most bytes of headers and properties together, as stored; default 65,536 (64 KiB), range 1,024 to 1,048,576.</summary>
    public int MaxHeaderBytes { get; set; } = 64 * 1024;

    /// <summary>
    /// What happens when a scope ends with messages that no <c>SaveChanges</c> has stored; default
    /// <see cref="UnsavedMessages.Log"/>. They are counted in any case.
    /// </summary>
    public UnsavedMessages Unsaved { get; set; } = UnsavedMessages.Log;

    /// <summary>
    /// What happens when code that has a unit of work publishes or sends through the bus itself (<c>IBus</c>), so that the
    /// message leaves whether the unit commits or not; default <see cref="OutboxBypass.Warn"/>. Counted in any case. Code
    /// has a unit of work inside a handler, and in a service scope that has asked for a publisher. Requests are meant to go
    /// directly.
    /// </summary>
    public OutboxBypass Bypass { get; set; } = OutboxBypass.Warn;

    /// <summary>
    /// What happens when a handler makes a request: it goes to the broker directly, as its answer could never come after the
    /// commit, and the handler's transaction stays open until the answer is there; default <see cref="OutboxBypass.Warn"/>.
    /// </summary>
    public OutboxBypass RequestsInHandlers { get; set; } = OutboxBypass.Warn;
}

/// <summary>What happens when a scope ends with messages that no <c>SaveChanges</c> has stored.</summary>
public enum UnsavedMessages
{
    /// <summary>An error is logged.</summary>
    Log,

    /// <summary>An error is logged and disposing the scope throws; meant for tests and development.</summary>
    Throw,

    /// <summary>Nothing but the count.</summary>
    Allow,
}

/// <summary>What happens when code that has a unit of work sends past the outbox.</summary>
public enum OutboxBypass
{
    /// <summary>A warning is logged, once for each message type.</summary>
    Warn,

    /// <summary>The publish throws, and nothing is sent; meant for tests and development.</summary>
    Throw,

    /// <summary>Nothing but the count.</summary>
    Allow,
}

/// <summary>How stored messages are sent to the broker.</summary>
public sealed class DeliveryOptions
{
    /// <summary>
    /// Whether this process sends; default true. A process with delivery off stores its messages for others that use the
    /// same database.
    /// </summary>
    public bool Enabled { get; set; } = true;

    /// <summary>How often a refused message is tried before it becomes a dead letter; default 10, range 1 to 1,000. Outages cost no attempt.</summary>
    public int MaxAttempts { get; set; } = 10;

    /// <summary>The back-off after the first refusal; default 1 s, range 10 ms to 1 h. Doubles per attempt, with a jitter of 20 %.</summary>
    public TimeSpan MinBackoff { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>The longest back-off; default 5 min, range <see cref="MinBackoff"/> to 1 day.</summary>
    public TimeSpan MaxBackoff { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>How long a claim keeps other instances away; default 30 s, range 1 s to 1 h. Recovery from a crash takes this long.</summary>
    public TimeSpan Lease { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long one send may take before its outcome counts as unknown; default 10 s, range 100 ms to half of <see cref="Lease"/>.</summary>
    public TimeSpan SendTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>How often the database is asked for messages that nobody handed over; default 1 s, range 10 ms to 5 min; jitter of 20 %.</summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>How many messages one claim takes; default 500, range 1 to 1,000.</summary>
    public int ClaimBatch { get; set; } = 500;

    /// <summary>How many sends may be in flight at once; default 1,000, range 1 to 10,000.</summary>
    public int MaxInFlight { get; set; } = 1000;

    /// <summary>
    /// How many just-committed messages may wait in memory; default 50,000, range 0 to 1,000,000. The rest waits in the database;
    /// of ten times as many the keys are kept, so that they are sent as soon as there is room, and not when their lease ends.
    /// </summary>
    public int HandOffMessages { get; set; } = 50_000;

    /// <summary>How many body bytes of just-committed messages may wait in memory; default 67,108,864 (64 MiB), at least 0.</summary>
    public long HandOffBytes { get; set; } = 64L * 1024 * 1024;

    /// <summary>How long confirmed messages are gathered before they are deleted together; default 50 ms, range 0 to 1 s.</summary>
    public TimeSpan SettleDelay { get; set; } = TimeSpan.FromMilliseconds(50);

    /// <summary>How long the first pause lasts after the broker failed; default 200 ms, range 10 ms to 1 min. Doubles per failed probe.</summary>
    public TimeSpan MinOutagePause { get; set; } = TimeSpan.FromMilliseconds(200);

    /// <summary>The longest pause between probes of a broker that is down; default 5 s, range <see cref="MinOutagePause"/> to 10 min.</summary>
    public TimeSpan MaxOutagePause { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// How long a stopping host waits for what is in flight; default 15 s, range 0 to 10 min. After that up to 2 s more go
    /// into writing down what was confirmed; what is left is sent after the next start.
    /// </summary>
    public TimeSpan StopTimeout { get; set; } = TimeSpan.FromSeconds(15);
}

/// <summary>How consumed messages are remembered.</summary>
public sealed class InboxOptions
{
    /// <summary>When the record of a consumed message is inserted; default <see cref="InboxMode.First"/>.</summary>
    public InboxMode Mode { get; set; } = InboxMode.First;

    /// <summary>How long a consumed message is remembered, and so how late a duplicate is recognised; default 7 days, range 1 min to 10 years.</summary>
    public TimeSpan Retention { get; set; } = TimeSpan.FromDays(7);

    /// <summary>How often records past retention are deleted; default 1 min, range 1 s to 1 day.</summary>
    public TimeSpan PurgeInterval { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How many records one purge statement deletes; default 1,000, range 1 to 10,000.</summary>
    public int PurgeBatch { get; set; } = 1000;
}

/// <summary>When, in the handler's transaction, the record of a consumed message is inserted.</summary>
public enum InboxMode
{
    /// <summary>Before the handler: a duplicate is recognised without running it, and a concurrent copy waits.</summary>
    First,

    /// <summary>
    /// Together with the handler's own rows, which saves a round trip per message. The price: a duplicate runs the handler
    /// again before it is recognised and rolled back, so that effects outside the transaction happen again. No gain on SQLite.
    /// </summary>
    Last,
}

/// <summary>When the health check reports trouble.</summary>
public sealed class HealthOptions
{
    /// <summary>The age of the oldest message due for sending beyond which the check is degraded; default 5 min, positive.</summary>
    public TimeSpan MaxPendingAge { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>The number of messages due for sending beyond which the check is degraded; default 10,000, range 1 to 1,000,000.</summary>
    public int MaxPending { get; set; } = 10_000;

    /// <summary>The number of dead letters beyond which the check is degraded; default 0, range 0 to 1,000,000.</summary>
    public int MaxDeadLetters { get; set; }

    /// <summary>
    /// How often the gauges of pending messages and dead letters are read from the database while somebody collects them;
    /// default 15 s, range 1 s to 1 h. A health check refreshes them too.
    /// </summary>
    public TimeSpan GaugeInterval { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>Where counting stops: enough to see that a limit is exceeded, and bounded however long the table is.</summary>
    internal int CountLimit => Math.Max(MaxPending, MaxDeadLetters) + 1;
}
