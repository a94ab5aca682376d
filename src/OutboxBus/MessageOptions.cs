namespace OutboxBus;

/// <summary>What can be said about one outgoing message; every property is optional.</summary>
public abstract record MessageOptions
{
    /// <summary>The message's id; default: a new one. Give one to make a repeated publish recognisable by the inbox.</summary>
    public Guid? MessageId { get; init; }

    /// <summary>Ties the messages of one business process together; default: taken from the message by the bus's conventions.</summary>
    public Guid? CorrelationId { get; init; }

    /// <summary>Headers sent beside the body; default: none. Values may be strings, numbers, booleans, ids, dates and URIs.</summary>
    public IReadOnlyDictionary<string, object?>? Headers { get; init; }

    /// <summary>
    /// Holds the message in the database this long after it was published; default: not at all. Not negative; excludes
    /// <see cref="DueAt"/>; at most 3,660 days and shorter than <see cref="TimeToLive"/>.
    /// </summary>
    public TimeSpan? Delay { get; init; }

    /// <summary>Holds the message in the database until this time; default: not at all. Excludes <see cref="Delay"/>.</summary>
    public DateTimeOffset? DueAt { get; init; }

    /// <summary>
    /// The token by which <see cref="IOutboxContext.CancelScheduled"/> takes the message back until it is sent; default: none,
    /// it cannot be taken back. Needs <see cref="Delay"/> or <see cref="DueAt"/>. An id of the business, such as an order's,
    /// will do; several messages may share it, and are then cancelled together.
    /// </summary>
    public Guid? ScheduleToken { get; init; }

    /// <summary>
    /// How long the message is worth delivering, counted from the publish; default: for ever. A message that expires
    /// before it was sent becomes a dead letter; afterwards the broker drops it. Positive, at most 3,660 days.
    /// </summary>
    public TimeSpan? TimeToLive { get; init; }

    /// <summary>
    /// Whether the broker must have a queue for the message; default: false, as brokers drop what nobody is bound to.
    /// A message the broker returns is retried and then becomes a dead letter. Needs a transport that can tell (RabbitMQ).
    /// </summary>
    public bool RequireRoute { get; init; }

    // Beyond the inbox's longest retention, and far from the end of the calendar.
    private static readonly TimeSpan LongestTime = TimeSpan.FromDays(3660);

    internal void Validate()
    {
        if (Delay is { } delay && (delay < TimeSpan.Zero || delay > LongestTime))
            throw new ArgumentException($"Delay is {delay}; it must be between 0 and {LongestTime.Days} days.");
        if (Delay is not null && DueAt is not null)
            throw new ArgumentException("Both Delay and DueAt are set; set one of them.");
        if (TimeToLive is { } timeToLive && (timeToLive <= TimeSpan.Zero || timeToLive > LongestTime))
            throw new ArgumentException($"TimeToLive is {timeToLive}; it must be positive and at most {LongestTime.Days} days.");
        if (Delay >= TimeToLive)
            throw new ArgumentException($"Delay is {Delay} and TimeToLive {TimeToLive}: the message would expire before it is sent.");
        if (ScheduleToken == Guid.Empty)
            throw new ArgumentException("ScheduleToken is the empty GUID; leave it unset, or give an id.");
        if (ScheduleToken is not null && Delay is null && DueAt is null)
            throw new ArgumentException("ScheduleToken is set, but neither Delay nor DueAt: the message leaves at once. Set one of them.");
        if (MessageId == Guid.Empty)
            throw new ArgumentException("MessageId is the empty GUID; leave it unset to get a new id.");
    }
}

/// <summary>Options of <see cref="IOutboxContext.Publish{T}"/>.</summary>
public sealed record PublishOptions : MessageOptions;

/// <summary>Options of <see cref="IOutboxContext.Send{T}"/>.</summary>
public sealed record SendOptions : MessageOptions;
