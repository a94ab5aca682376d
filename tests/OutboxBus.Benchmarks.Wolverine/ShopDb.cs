using Microsoft.EntityFrameworkCore;
using Wolverine.EntityFrameworkCore;

namespace OutboxBus.Benchmarks.Wolverine;

public sealed class Order
{
    public Guid Id { get; init; }

    public required string Reference { get; init; }

    public required string Customer { get; init; }

    public decimal Amount { get; init; }
}

public sealed class Shipment
{
    public Guid Id { get; init; }

    public Guid OrderId { get; init; }

    public required string Reference { get; init; }
}

public sealed class ShopDb : DbContext
{
    public ShopDb(DbContextOptions<ShopDb> options) : base(options)
    {
        // Inside the handler's transaction every SaveChanges would add SAVEPOINT and RELEASE round trips that nobody rolls back to.
        Database.AutoSavepointsEnabled = false;
    }

    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Shipment> Shipments => Set<Shipment>();

    // Mapped here, as the documentation shows, because AddDbContextWithWolverineIntegration would register an unpooled context.
    // With the mapping, envelopes ride the SaveChanges of the business rows instead of a command of their own.
    protected override void OnModelCreating(ModelBuilder modelBuilder)
        => modelBuilder.MapWolverineEnvelopeStorage(Hosting.MessageSchema);
}
