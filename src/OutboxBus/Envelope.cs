namespace OutboxBus;

/// <summary>
/// A message as stored: one row of the outbox table. The columns are frozen as schema version 1; times are UTC and, but
/// for <see cref="DueAt"/> and <see cref="ExpiresAt"/>, written by the database's clock.
/// </summary>
/// <remarks>
/// Every row is in exactly one state, decided by <see cref="VisibleAt"/> alone: at or before the database's present it
/// is claimable; later, it is leased, delayed or backing off. A confirmed message has no row; one given up on is a
/// <see cref="DeadLetter"/>.
/// </remarks>
public sealed class Envelope
{
    /// <summary>The row's key, given by the database; 0 until stored. Not the message's id.</summary>
    public long Id { get; set; }

    /// <summary>0: an ordinary message. Version 1 claims only kind 0, so that later versions may add held rows.</summary>
    public short Kind { get; set; }

    /// <summary>The name of the bus that sends the message.</summary>
    public string Bus { get; set; } = DefaultBus;

    /// <summary>
    /// The row may be claimed from then on: lease, delay and back-off in one column, judged by the database's clock. Left
    /// unset on insert, the database gives the row a lease on behalf of the process that wrote it.
    /// </summary>
    public DateTime VisibleAt { get; set; }

    /// <summary>When the publisher asked for the message to be sent; null: at once.</summary>
    public DateTime? DueAt { get; set; }

    /// <summary>How often the broker or the transport refused this message.</summary>
    public int Attempts { get; set; }

    /// <summary>How often the row was claimed since the last known outcome; grows when processes die with it in hand.</summary>
    public int ClaimCount { get; set; }

    /// <summary>The bucket of the ordering key; null: unordered.</summary>
    public short? Lane { get; set; }

    /// <summary>The scope in which order is kept; null: unordered.</summary>
    public string? OrderingKey { get; set; }

    /// <summary>Grows with each message that its unit of work publishes: the order of those that share a transaction.</summary>
    public int Seq { get; set; }

    /// <summary>The message's id, the same on every delivery.</summary>
    public Guid MessageId { get; set; }

    /// <summary>The address to send to; null: published to the subscribers of <see cref="MessageType"/>.</summary>
    public string? Destination { get; set; }

    /// <summary>The name of the message's type on the bus. Never used to load a type.</summary>
    public string MessageType { get; set; } = "";

    /// <summary>The MIME type of <see cref="Body"/>.</summary>
    public string ContentType { get; set; } = "";

    /// <summary>The headers as JSON; null: none.</summary>
    public string? Headers { get; set; }

    /// <summary>Ids, addresses and transport properties as JSON.</summary>
    public string? Properties { get; set; }

    /// <summary>The serialized message, byte for byte as it goes to the broker.</summary>
    public byte[] Body { get; set; } = [];

    /// <summary>When the row was written.</summary>
    public DateTime CreatedAt { get; set; }

    /// <summary>When the message stops being worth sending; null: never.</summary>
    public DateTime? ExpiresAt { get; set; }

    /// <summary>The token by which a scheduled message can be cancelled; null: not scheduled.</summary>
    public Guid? ScheduleToken { get; set; }

    /// <summary>Why the last attempt failed; null: none failed.</summary>
    public string? LastError { get; set; }

    /// <summary>The name of an application's only bus.</summary>
    internal const string DefaultBus = "default";

    /// <summary>The length of the columns that hold a short name, such as the content type.</summary>
    internal const int NameLength = 256;

    /// <summary>The length of the columns that hold a destination or a message type.</summary>
    internal const int AddressLength = 1024;
}
