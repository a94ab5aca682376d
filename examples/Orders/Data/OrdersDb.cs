using Microsoft.EntityFrameworkCore;

namespace Orders.Data;

public sealed class OrdersDb(DbContextOptions<OrdersDb> options) : DbContext(options)
{
    /// <summary>
    /// How long a message just committed is left to the process that wrote it. 30 seconds are the default and right for
    /// production; here it is short so that the walkthrough need not wait that long for a killed process.
    /// </summary>
    public static readonly TimeSpan Lease = TimeSpan.FromSeconds(2);

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

        // The outbox, dead letter and inbox tables, in the same database as the orders.
        modelBuilder.AddOutboxBus(Database, schema => schema.FreshRowLease = Lease);
    }
}
