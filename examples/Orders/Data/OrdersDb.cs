using Examples.Hosting;
using Microsoft.EntityFrameworkCore;

namespace Orders.Data;

public sealed class OrdersDb(DbContextOptions<OrdersDb> options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    public DbSet<StockReservation> Reservations => Set<StockReservation>();

    public DbSet<Confirmation> Confirmations => Set<Confirmation>();

    public DbSet<Notification> Notifications => Set<Notification>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Order>(order =>
        {
            order.ToTable("orders", table => table.HasCheckConstraint("ck_orders_quantity", "quantity > 0"));
            order.Property(row => row.Id).ValueGeneratedNever();
            order.Property(row => row.Quantity).HasColumnName("quantity");
        });
        modelBuilder.Entity<StockReservation>().ToTable("stock_reservations");
        modelBuilder.Entity<Confirmation>().ToTable("confirmations");
        modelBuilder.Entity<Notification>().ToTable("notifications");

        // The outbox, dead letter and inbox tables, in the same database as the orders. The short lease is for the walkthrough; 30 seconds are the default.
        modelBuilder.AddOutboxBus(Database, schema => schema.FreshRowLease = ShortTimes.Lease);
    }
}
