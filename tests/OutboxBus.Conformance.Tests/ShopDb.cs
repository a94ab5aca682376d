using MassTransit;
using Microsoft.EntityFrameworkCore;

namespace OutboxBus.Conformance.Tests;

public sealed class ShopDb(DbContextOptions<ShopDb> options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Order>().HasIndex(order => order.Number).IsUnique();
        var progress = modelBuilder.AddSaga<OrderProgress>();
        // PostgreSQL's xmin; SQLite has no version that the database keeps.
        if (Database.ProviderName!.StartsWith("Npgsql", StringComparison.Ordinal))
            progress.Property(saga => saga.Version).IsRowVersion();
        else
            progress.Ignore(saga => saga.Version);
        modelBuilder.AddOutboxBus(Database);
    }
}

// A second order with the same number cannot be saved.
public sealed class Order
{
    public int Id { get; set; }

    public string Number { get; set; } = "";
}

public sealed class OrderProgress : SagaStateMachineInstance
{
    public Guid CorrelationId { get; set; }

    public string CurrentState { get; set; } = "";

    public int Steps { get; set; }

    public uint Version { get; set; }
}

public sealed record OrderPlaced(string Number);
