using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata.Builders;
using OutboxBus;
using OutboxBus.EntityFrameworkCore;
using OutboxBus.EntityFrameworkCore.Storage;
using OutboxBus.Storage;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Adds the OutboxBus tables to a model.</summary>
public static class OutboxBusModelBuilderExtensions
{
    private const int NameLength = Envelope.NameLength;
    private const int AddressLength = Envelope.AddressLength;
    private const int ErrorLength = 1000;

    /// <summary>
    /// Adds the outbox, dead letter and inbox tables to the model. Call it in <c>OnModelCreating</c> as
    /// <c>modelBuilder.AddOutboxBus(Database)</c> and add a migration.
    /// </summary>
    /// <param name="modelBuilder">The model builder.</param>
    /// <param name="database">The context's <c>Database</c>: its provider decides types and defaults.</param>
    /// <param name="configure">Names and the lease of fresh rows; null for the defaults.</param>
    /// <exception cref="OutboxBusException">The provider is not supported, or a name or time is out of range.</exception>
    public static ModelBuilder AddOutboxBus(this ModelBuilder modelBuilder, DatabaseFacade database, Action<OutboxSchemaOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(modelBuilder);
        ArgumentNullException.ThrowIfNull(database);
        var options = new OutboxSchemaOptions();
        configure?.Invoke(options);
        new OutboxTables(options.Schema, options.OutboxTable, options.DeadLetterTable, options.InboxTable).Validate();
        if (options.FreshRowLease < TimeSpan.FromSeconds(1) || options.FreshRowLease > TimeSpan.FromHours(1))
            throw new OutboxBusException($"FreshRowLease is {options.FreshRowLease}; it must be between 1 second and 1 hour.");

        var engine = EngineSchema.For(database.ProviderName);
        MapOutbox(modelBuilder.Entity<Envelope>(), options, engine);
        MapDeadLetters(modelBuilder.Entity<DeadLetter>(), options, engine);
        MapInbox(modelBuilder.Entity<InboxMessage>(), options, engine);
        return modelBuilder;
    }

    private static void MapOutbox(EntityTypeBuilder<Envelope> envelope, OutboxSchemaOptions options, EngineSchema engine)
    {
        envelope.ToTable(options.OutboxTable, options.Schema);
        foreach (var (name, value) in engine.TableAnnotations)
            envelope.HasAnnotation(name, value);

        envelope.HasKey(row => row.Id);
        envelope.Property(row => row.Id).HasColumnName("id").ValueGeneratedOnAdd();
        envelope.Property(row => row.Kind).HasColumnName("kind").HasDefaultValue((short)0).ValueGeneratedNever();
        envelope.Property(row => row.Bus).HasColumnName("bus").HasMaxLength(NameLength);
        // Left unset by a publisher that delivers, so that the database writes the lease by its own clock.
        Time(envelope.Property(row => row.VisibleAt), "visible_at", engine).HasDefaultValueSql(engine.NowPlus(options.FreshRowLease)).ValueGeneratedOnAdd();
        Time(envelope.Property(row => row.DueAt), "due_at", engine);
        envelope.Property(row => row.Attempts).HasColumnName("attempts").HasDefaultValue(0).ValueGeneratedNever();
        envelope.Property(row => row.ClaimCount).HasColumnName("claim_count").HasDefaultValue(0).ValueGeneratedNever();
        envelope.Property(row => row.Lane).HasColumnName("lane");
        envelope.Property(row => row.OrderingKey).HasColumnName("ordering_key").HasMaxLength(NameLength);
        envelope.Property(row => row.Seq).HasColumnName("seq").HasDefaultValue(0).ValueGeneratedNever();
        envelope.Property(row => row.MessageId).HasColumnName("message_id");
        envelope.Property(row => row.Destination).HasColumnName("destination").HasMaxLength(AddressLength);
        envelope.Property(row => row.MessageType).HasColumnName("message_type").HasMaxLength(AddressLength);
        envelope.Property(row => row.ContentType).HasColumnName("content_type").HasMaxLength(NameLength);
        envelope.Property(row => row.Headers).HasColumnName("headers");
        envelope.Property(row => row.Properties).HasColumnName("properties");
        envelope.Property(row => row.Body).HasColumnName("body");
        Time(envelope.Property(row => row.CreatedAt), "created_at", engine).HasDefaultValueSql(engine.Now).ValueGeneratedOnAdd();
        Time(envelope.Property(row => row.ExpiresAt), "expires_at", engine);
        envelope.Property(row => row.ScheduleToken).HasColumnName("schedule_token");
        envelope.Property(row => row.LastError).HasColumnName("last_error").HasMaxLength(ErrorLength);

        // bus leads, or one bus's backlog starves another.
        envelope.HasIndex(row => new { row.Bus, row.VisibleAt, row.Id }).HasDatabaseName($"ix_{options.OutboxTable}_visible").HasFilter("lane IS NULL");
        envelope.HasIndex(row => new { row.Lane, row.Id }).HasDatabaseName($"ix_{options.OutboxTable}_lane").HasFilter("lane IS NOT NULL");
        envelope.HasIndex(row => row.ScheduleToken).HasDatabaseName($"ix_{options.OutboxTable}_schedule_token").HasFilter("schedule_token IS NOT NULL");
    }

    private static void MapDeadLetters(EntityTypeBuilder<DeadLetter> letter, OutboxSchemaOptions options, EngineSchema engine)
    {
        letter.ToTable(options.DeadLetterTable, options.Schema);
        letter.HasKey(row => row.Id);
        letter.Property(row => row.Id).HasColumnName("id").ValueGeneratedOnAdd();
        letter.Property(row => row.OutboxId).HasColumnName("outbox_id");
        letter.Property(row => row.Kind).HasColumnName("kind");
        letter.Property(row => row.Bus).HasColumnName("bus").HasMaxLength(NameLength);
        Time(letter.Property(row => row.DueAt), "due_at", engine);
        letter.Property(row => row.Attempts).HasColumnName("attempts");
        letter.Property(row => row.ClaimCount).HasColumnName("claim_count");
        letter.Property(row => row.Lane).HasColumnName("lane");
        letter.Property(row => row.OrderingKey).HasColumnName("ordering_key").HasMaxLength(NameLength);
        letter.Property(row => row.Seq).HasColumnName("seq");
        letter.Property(row => row.MessageId).HasColumnName("message_id");
        letter.Property(row => row.Destination).HasColumnName("destination").HasMaxLength(AddressLength);
        letter.Property(row => row.MessageType).HasColumnName("message_type").HasMaxLength(AddressLength);
        letter.Property(row => row.ContentType).HasColumnName("content_type").HasMaxLength(NameLength);
        letter.Property(row => row.Headers).HasColumnName("headers");
        letter.Property(row => row.Properties).HasColumnName("properties");
        letter.Property(row => row.Body).HasColumnName("body");
        Time(letter.Property(row => row.CreatedAt), "created_at", engine);
        Time(letter.Property(row => row.ExpiresAt), "expires_at", engine);
        letter.Property(row => row.ScheduleToken).HasColumnName("schedule_token");
        Time(letter.Property(row => row.FailedAt), "failed_at", engine).HasDefaultValueSql(engine.Now).ValueGeneratedOnAdd();
        letter.Property(row => row.Reason).HasColumnName("reason").HasMaxLength(NameLength);
        letter.Property(row => row.Error).HasColumnName("error").HasMaxLength(ErrorLength);
    }

    private static void MapInbox(EntityTypeBuilder<InboxMessage> message, OutboxSchemaOptions options, EngineSchema engine)
    {
        message.ToTable(options.InboxTable, options.Schema);
        message.HasKey(row => new { row.MessageId, row.Consumer, row.Generation });
        message.Property(row => row.MessageId).HasColumnName("message_id");
        message.Property(row => row.Consumer).HasColumnName("consumer").HasMaxLength(NameLength * 2);
        message.Property(row => row.Generation).HasColumnName("generation").HasDefaultValue(0).ValueGeneratedNever();
        Time(message.Property(row => row.ConsumedAt), "consumed_at", engine).HasDefaultValueSql(engine.Now).ValueGeneratedOnAdd();
        message.HasIndex(row => row.ConsumedAt).HasDatabaseName($"ix_{options.InboxTable}_consumed_at");
    }

    private static PropertyBuilder<T> Time<T>(PropertyBuilder<T> property, string column, EngineSchema engine)
        => property.HasColumnName(column).HasConversion(engine.TimeConverter);
}
