using OutboxBus.Storage;

namespace OutboxBus.EntityFrameworkCore;

/// <summary>How the tables are called and how long a fresh row is left to the process that wrote it.</summary>
public sealed class OutboxSchemaOptions
{
    /// <summary>The tables' schema; default null: the model's default schema, or else the connection's.</summary>
    public string? Schema { get; set; }

    /// <summary>The outbox table; default <c>outbox_message</c>.</summary>
    public string OutboxTable { get; set; } = OutboxTables.DefaultOutbox;

    /// <summary>The dead letter table; default <c>outbox_dead_letter</c>.</summary>
    public string DeadLetterTable { get; set; } = OutboxTables.DefaultDeadLetter;

    /// <summary>The inbox table; default <c>inbox_message</c>.</summary>
    public string InboxTable { get; set; } = OutboxTables.DefaultInbox;

    /// <summary>
    /// How long a row just inserted is left to the process that inserted it, before others may claim it; default 30 s,
    /// range 1 s to 1 h, in whole milliseconds. After a crash between commit and delivery a message waits this long. It is a column default, so
    /// changing it needs a migration. Should be longer than <see cref="DeliveryOptions.SendTimeout"/>, or nothing is handed off.
    /// </summary>
    public TimeSpan FreshRowLease { get; set; } = TimeSpan.FromSeconds(30);
}
