using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata.Builders;
using OutboxBus.EndToEnd.Tests.Support;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

/// <summary>The shop's model and the sagas of these tests, on stacks that want them.</summary>
internal sealed class SagaModel(ModelCustomizerDependencies dependencies) : RelationalModelCustomizer(dependencies)
{
    public static async Task<Stack> CreateStackAsync(StackKind kind, InboxMode mode = InboxMode.First)
    {
        var stack = await Stack.CreateAsync(kind, mode);
        stack.ConfigureDatabase = options => options.ReplaceService<IModelCustomizer, SagaModel>();
        return stack;
    }

    public override void Customize(ModelBuilder modelBuilder, DbContext context)
    {
        base.Customize(modelBuilder, context);
        var isPostgreSql = context.Database.ProviderName == "Npgsql.EntityFrameworkCore.PostgreSQL";
        Version(modelBuilder.AddSaga<OrderState>().Property(saga => saga.Version));
        var shipment = modelBuilder.AddSaga<ShipmentState>();
        Version(shipment.Property(saga => saga.Version));
        shipment.OwnsMany(saga => saga.Labels, labels =>
        {
            labels.Property<Guid>("Id");
            labels.HasKey("Id");
        });
        modelBuilder.AddSaga<PaymentSaga>();

        var basket = modelBuilder.AddSaga<BasketState>();
        basket.OwnsOne(saga => saga.Address);
        basket.HasMany(saga => saga.Lines).WithOne().HasForeignKey(line => line.BasketId).OnDelete(DeleteBehavior.Cascade);

        void Version(PropertyBuilder<uint> version)
        {
            // SQLite has no row versions; there, the writer that the transaction is keeps messages apart.
            if (isPostgreSql)
                version.IsRowVersion();
            else
                version.IsConcurrencyToken();
        }
    }
}
