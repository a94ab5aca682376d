namespace OutboxBus;

/// <summary>An envelope that delivery has given up on, with everything needed to send it again.</summary>
public sealed class DeadLetter
{
    /// <summary>The row's own key.</summary>
    public long Id { get; set; }

    /// <summary>The key the envelope had in the outbox.</summary>
    public long OutboxId { get; set; }

    /// <inheritdoc cref="Envelope.Kind"/>
    public short Kind { get; set; }

    /// <inheritdoc cref="Envelope.Bus"/>
    public string Bus { get; set; } = Envelope.DefaultBus;

    /// <inheritdoc cref="Envelope.DueAt"/>
    public DateTime? DueAt { get; set; }

    /// <inheritdoc cref="Envelope.Attempts"/>
    public int Attempts { get; set; }

    /// <inheritdoc cref="Envelope.ClaimCount"/>
    public int ClaimCount { get; set; }

    /// <inheritdoc cref="Envelope.Lane"/>
    public short? Lane { get; set; }

    /// <inheritdoc cref="Envelope.OrderingKey"/>
    public string? OrderingKey { get; set; }

    /// <inheritdoc cref="Envelope.Seq"/>
    public int Seq { get; set; }

    /// <inheritdoc cref="Envelope.MessageId"/>
    public Guid MessageId { get; set; }

    /// <inheritdoc cref="Envelope.Destination"/>
    public string? Destination { get; set; }

    /// <inheritdoc cref="Envelope.MessageType"/>
    public string MessageType { get; set; } = "";

    /// <inheritdoc cref="Envelope.ContentType"/>
    public string ContentType { get; set; } = "";

    /// <inheritdoc cref="Envelope.Headers"/>
    public string? Headers { get; set; }

    /// <inheritdoc cref="Envelope.Properties"/>
    public string? Properties { get; set; }

    /// <inheritdoc cref="Envelope.Body"/>
    public byte[] Body { get; set; } = [];

    /// <inheritdoc cref="Envelope.CreatedAt"/>
    public DateTime CreatedAt { get; set; }

    /// <inheritdoc cref="Envelope.ExpiresAt"/>
    public DateTime? ExpiresAt { get; set; }

    /// <inheritdoc cref="Envelope.ScheduleToken"/>
    public Guid? ScheduleToken { get; set; }

    /// <summary>When delivery gave up, by the database's clock.</summary>
    public DateTime FailedAt { get; set; }

    /// <summary>Why delivery gave up: the name of a <see cref="DeadLetterReason"/>.</summary>
    public string Reason { get; set; } = "";

    /// <summary>The last error, if there was one.</summary>
    public string? Error { get; set; }
}

/// <summary>Why an envelope became a dead letter.</summary>
public enum DeadLetterReason
{
    /// <summary>It was refused <see cref="DeliveryOptions.MaxAttempts"/> times.</summary>
    Refused,

    /// <summary>Its time to live had passed before it could be sent.</summary>
    Expired,

    /// <summary>Sending it ended without an outcome again and again, the last time alone: it probably kills the process that sends it.</summary>
    NoOutcome,

    /// <summary>Its row could not be read.</summary>
    Corrupt,
}
