using Microsoft.EntityFrameworkCore;

namespace OutboxBus.Benchmarks.Contestants;

public sealed record OrderPlaced(Guid OrderId, string Reference, string Customer, string Address, decimal Amount, DateTimeOffset PlacedAt);

public sealed record OrderShipped(Guid OrderId, string Reference, string Carrier, DateTimeOffset ShippedAt);

public sealed class Order
{
    public Guid Id { get; set; }

    public string Reference { get; set; } = "";

    public string Customer { get; set; } = "";

    public decimal Amount { get; set; }
}

public sealed class Shipment
{
    public Guid Id { get; set; }

    public Guid OrderId { get; set; }

    public string Reference { get; set; } = "";
}

// The same tables for every contestant that uses EF Core without an outbox of its own.
public sealed class ShopDb(DbContextOptions<ShopDb> options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Shipment> Shipments => Set<Shipment>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        MapShop(modelBuilder);
        modelBuilder.AddOutboxBus(Database);
    }

    public static void MapShop(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Order>(order => order.ToTable("orders").Property(row => row.Id).ValueGeneratedNever());
        modelBuilder.Entity<Shipment>(shipment => shipment.ToTable("shipments").Property(row => row.Id).ValueGeneratedNever());
    }
}

// About 300 bytes of JSON.
public static class Samples
{
    private const string Customer = "Ada Lovelace, Analytical Engines Ltd.";
    private const string Address = "12 St James's Square, London SW1Y 4JH, United Kingdom; second floor, ring twice";

    public static Order Order(string reference) => new() { Id = Guid.CreateVersion7(), Reference = reference, Customer = Customer, Amount = 129.95m };

    public static OrderPlaced Placed(Guid orderId, string reference) => new(orderId, reference, Customer, Address, 129.95m, DateTimeOffset.UtcNow);

    public static Shipment Shipment(OrderPlaced order) => new() { Id = Guid.CreateVersion7(), OrderId = order.OrderId, Reference = order.Reference };

    public static OrderShipped Shipped(OrderPlaced order) => new(order.OrderId, order.Reference, "Royal Mail Special Delivery, signed for", DateTimeOffset.UtcNow);
}
