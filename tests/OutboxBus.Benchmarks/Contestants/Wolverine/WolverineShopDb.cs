using Microsoft.EntityFrameworkCore;
using Wolverine.EntityFrameworkCore;

namespace OutboxBus.Benchmarks.Contestants.Wolverine;

public sealed class WolverineShopDb : DbContext
{
    public WolverineShopDb(DbContextOptions<WolverineShopDb> options) : base(options)
    {
        // Inside the handler's transaction every SaveChanges would add SAVEPOINT and RELEASE round trips that nobody rolls back to.
        Database.AutoSavepointsEnabled = false;
    }

    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Shipment> Shipments => Set<Shipment>();

    // Mapped here, as the documentation shows, because AddDbContextWithWolverineIntegration would register an unpooled context.
    // With the mapping, envelopes ride the SaveChanges of the business rows instead of a command of their own.
    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        ShopDb.MapShop(modelBuilder);
        modelBuilder.MapWolverineEnvelopeStorage(WolverineHost.MessageSchema);
    }
}
