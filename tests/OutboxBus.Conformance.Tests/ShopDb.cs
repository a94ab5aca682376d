using Microsoft.EntityFrameworkCore;

namespace OutboxBus.Conformance.Tests;

public sealed class ShopDb(DbContextOptions<ShopDb> options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Order>().HasIndex(order => order.Number).IsUnique();
        modelBuilder.AddOutboxBus(Database);
    }
}

// A second order with the same number cannot be saved.
public sealed class Order
{
    public int Id { get; set; }

    public string Number { get; set; } = "";
}

public sealed record OrderPlaced(string Number);
