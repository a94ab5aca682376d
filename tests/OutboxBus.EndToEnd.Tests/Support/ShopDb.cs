using Microsoft.EntityFrameworkCore;

namespace OutboxBus.EndToEnd.Tests.Support;

public sealed class ShopDb(DbContextOptions<ShopDb> options) : DbContext(options)
{
    /// <summary>Short, as some tests wait for it to end.</summary>
    public static readonly TimeSpan Lease = TimeSpan.FromSeconds(4);

    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Effect> Effects => Set<Effect>();

    public DbSet<Envelope> Outbox => Set<Envelope>();

    public DbSet<DeadLetter> DeadLetters => Set<DeadLetter>();

    public DbSet<InboxMessage> Inbox => Set<InboxMessage>();

    protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.AddOutboxBus(Database, schema => schema.FreshRowLease = Lease);
}

/// <summary>What a publisher commits together with its message.</summary>
public sealed class Order
{
    public Guid Id { get; set; } = Guid.NewGuid();
}

/// <summary>What a consumer commits. Without a unique constraint: a doubled effect must be seen.</summary>
public sealed class Effect
{
    public long Id { get; set; }

    public Guid OrderId { get; set; }

    public string By { get; set; } = "";
}
