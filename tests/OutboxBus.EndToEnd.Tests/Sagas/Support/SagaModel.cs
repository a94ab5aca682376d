using MassTransit;
using MassTransit.Serialization;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
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

        AddFutures(modelBuilder);
        AddJobs(modelBuilder);

        void Version(PropertyBuilder<uint> version)
        {
            // SQLite has no row versions; there, the writer that the transaction is keeps messages apart.
            if (isPostgreSql)
                version.IsRowVersion();
            else
                version.IsConcurrencyToken();
        }
    }

    private static void AddFutures(ModelBuilder modelBuilder)
    {
        var future = modelBuilder.AddSaga<FutureState>();
        future.Ignore(saga => saga.RowVersion);
        Json(future.Property(saga => saga.Command));
        Json(future.Property(saga => saga.Pending));
        Json(future.Property(saga => saga.Subscriptions));
        Json(future.Property(saga => saga.Variables));
        Json(future.Property(saga => saga.Results));
        Json(future.Property(saga => saga.Faults));
    }

    private static void AddJobs(ModelBuilder modelBuilder)
    {
        var type = modelBuilder.AddSaga<JobTypeSaga>();
        type.Ignore(saga => saga.RowVersion);
        Json(type.Property(saga => saga.ActiveJobs));
        Json(type.Property(saga => saga.Instances));
        Json(type.Property(saga => saga.Properties));
        var job = modelBuilder.AddSaga<JobSaga>();
        job.Ignore(saga => saga.RowVersion);
        Json(job.Property(saga => saga.Job));
        Json(job.Property(saga => saga.IncompleteAttempts));
        Json(job.Property(saga => saga.JobState));
        Json(job.Property(saga => saga.JobProperties));
        modelBuilder.AddSaga<JobAttemptSaga>().Ignore(saga => saga.RowVersion);
    }

    // As MassTransit writes and reads messages: there are objects of any type in them.
    private static void Json<T>(PropertyBuilder<T> property)
        where T : class => property.IsRequired(false).HasConversion(
        value => ObjectDeserializer.Serialize(value),
        text => ObjectDeserializer.Deserialize<T>(text)!,
        new ValueComparer<T>(
            (left, right) => ObjectDeserializer.Serialize(left) == ObjectDeserializer.Serialize(right),
            value => 0,
            value => ObjectDeserializer.Deserialize<T>(ObjectDeserializer.Serialize(value))!));
}
