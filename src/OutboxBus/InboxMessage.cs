namespace OutboxBus;

/// <summary>A record that a consumer has consumed a message: one row of the inbox table.</summary>
public sealed class InboxMessage
{
    /// <summary>The message's id.</summary>
    public Guid MessageId { get; set; }

    /// <summary>Who consumed it: the endpoint and the consumer's stable name, as two consumers on one endpoint must both run. <c>$commit</c>: an operation of <c>CommitOnceAsync</c>.</summary>
    public string Consumer { get; set; } = "";

    /// <summary>0 for the first consumption; a deliberate redelivery counts up.</summary>
    public int Generation { get; set; }

    /// <summary>When it was consumed, by the database's clock.</summary>
    public DateTime ConsumedAt { get; set; }
}
