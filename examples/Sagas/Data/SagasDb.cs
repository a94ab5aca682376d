using Examples.Hosting;
using Microsoft.EntityFrameworkCore;
using Sagas.Saga;
using Sagas.Services;

namespace Sagas.Data;

public sealed class SagasDb(DbContextOptions<SagasDb> options) : DbContext(options)
{
    /// <summary>What the shop sells, and how much of it the warehouse has at the beginning.</summary>
    public const string Product = "teapot";
    public const int Stocked = 100;

    public DbSet<Order> Orders => Set<Order>();

    public DbSet<OrderState> States => Set<OrderState>();

    public DbSet<PaymentEntry> Payments => Set<PaymentEntry>();

    public DbSet<StockItem> Stock => Set<StockItem>();

    public DbSet<StockEntry> StockEntries => Set<StockEntry>();

    public DbSet<ParcelEntry> Parcels => Set<ParcelEntry>();

    public DbSet<Question> Questions => Set<Question>();

    public DbSet<ServiceSetting> Settings => Set<ServiceSetting>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        // The saga's instances. Without a row version, an event locks the row of its instance until it is consumed.
        var state = modelBuilder.AddSaga<OrderState>();
        state.ToTable("order_states");
        // Not loaded with its instance: events only add to it.
        state.HasMany(row => row.History).WithOne().HasForeignKey(entry => entry.OrderId);
        foreach (var leg in (string[])[nameof(OrderState.Payment), nameof(OrderState.Stock), nameof(OrderState.Shipping)])
            state.Property<Leg>(leg).HasConversion<string>();

        modelBuilder.Entity<HistoryEntry>().ToTable("order_history");

        modelBuilder.Entity<Order>(order =>
        {
            order.ToTable("orders", table => table.HasCheckConstraint("ck_orders_quantity", "quantity > 0"));
            order.Property(row => row.Id).ValueGeneratedNever();
            order.Property(row => row.Quantity).HasColumnName("quantity");
        });
        modelBuilder.Entity<PaymentEntry>().ToTable("payment_entries");
        modelBuilder.Entity<StockEntry>().ToTable("stock_entries");
        modelBuilder.Entity<ParcelEntry>().ToTable("parcel_entries");
        modelBuilder.Entity<StockItem>(item =>
        {
            item.ToTable("stock");
            item.HasKey(row => row.Product);
            item.HasData(new StockItem { Product = Product, OnHand = Stocked });
        });
        modelBuilder.Entity<Question>(question =>
        {
            question.ToTable("questions");
            question.Property(row => row.Service).HasConversion<string>();
            // Of two answers at once one fails.
            question.Property(row => row.Answer).HasConversion<string>().IsConcurrencyToken();
        });
        modelBuilder.Entity<ServiceSetting>(setting =>
        {
            setting.ToTable("services");
            setting.HasKey(row => row.Service);
            setting.Property(row => row.Service).HasConversion<string>();
            setting.Property(row => row.Behaviour).HasConversion<string>();
        });

        // The outbox, dead letter and inbox tables, in the same database. The short lease is for the walkthrough; 30 seconds are the default.
        modelBuilder.AddOutboxBus(Database, schema => schema.FreshRowLease = ShortTimes.Lease);
    }
}
