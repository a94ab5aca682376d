namespace OutboxBus.Storage;

/// <summary>The tables' names as the application's model gives them, not yet quoted.</summary>
/// <param name="Schema">The schema; null: the connection's default, such as the first of PostgreSQL's search path.</param>
/// <param name="Outbox">The table of envelopes awaiting delivery.</param>
/// <param name="DeadLetter">The table of envelopes delivery has given up on.</param>
/// <param name="Inbox">The table of consumed messages.</param>
public sealed record OutboxTables(
    string? Schema = null,
    string Outbox = OutboxTables.DefaultOutbox,
    string DeadLetter = OutboxTables.DefaultDeadLetter,
    string Inbox = OutboxTables.DefaultInbox)
{
    /// <summary>The default name of the outbox table.</summary>
    public const string DefaultOutbox = "outbox_message";

    /// <summary>The default name of the dead letter table.</summary>
    public const string DefaultDeadLetter = "outbox_dead_letter";

    /// <summary>The default name of the inbox table.</summary>
    public const string DefaultInbox = "inbox_message";

    /// <summary>The longest identifier PostgreSQL keeps; longer ones are cut there without an error.</summary>
    private const int MaxIdentifierLength = 63;

    /// <summary>Throws unless every name is an identifier that all engines take as it is.</summary>
    /// <exception cref="OutboxBusException">A name is empty, too long or has control characters.</exception>
    public void Validate()
    {
        foreach (var (what, name) in new[] { ("schema", Schema), ("outbox table", Outbox), ("dead letter table", DeadLetter), ("inbox table", Inbox) })
        {
            if (name is null)
                continue;
            if (string.IsNullOrWhiteSpace(name) || name.Length > MaxIdentifierLength || name.Any(char.IsControl))
                throw new OutboxBusException($"The name of the {what} is \"{name}\"; it must have 1 to {MaxIdentifierLength} characters and no control characters. Change it in modelBuilder.AddOutboxBus.");
        }
    }
}
