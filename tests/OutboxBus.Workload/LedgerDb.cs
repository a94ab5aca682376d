using Microsoft.EntityFrameworkCore;

namespace OutboxBus.Workload;

/// <summary>What the processes of a kill test have done. No unique constraints: a doubled effect must be seen, not prevented.</summary>
public sealed class LedgerDb(DbContextOptions<LedgerDb> options) : DbContext(options)
{
    /// <summary>Short, so that a test sees what a killed process left behind after seconds.</summary>
    public static readonly TimeSpan Lease = TimeSpan.FromSeconds(2);

    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Reservation> Reservations => Set<Reservation>();

    public DbSet<Confirmation> Confirmations => Set<Confirmation>();

    public DbSet<HandlerEntry> HandlerEntries => Set<HandlerEntry>();

    public DbSet<Envelope> Outbox => Set<Envelope>();

    public DbSet<DeadLetter> DeadLetters => Set<DeadLetter>();

    protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.AddOutboxBus(Database, schema => schema.FreshRowLease = Lease);
}

/// <summary>A business row: the reason why a message must exist.</summary>
public sealed class Order
{
    public Guid Id { get; set; }
}

/// <summary>The effect of the first handler.</summary>
public sealed class Reservation
{
    public long Id { get; set; }

    public Guid OrderId { get; set; }
}

/// <summary>The effect of the second handler, whose message the first one published.</summary>
public sealed class Confirmation
{
    public long Id { get; set; }

    public Guid OrderId { get; set; }
}

/// <summary>Written outside the handler's transaction: remains when that rolls back.</summary>
public sealed class HandlerEntry
{
    public long Id { get; set; }

    public Guid OrderId { get; set; }
}
