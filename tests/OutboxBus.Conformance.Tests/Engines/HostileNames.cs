using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using OutboxBus.Storage;

namespace OutboxBus.Conformance.Tests.Engines;

// Names that break whatever quotes them carelessly, or not at all: quotes, brackets, comments, parameters, placeholders, other alphabets.
public static class HostileNames
{
    public const string Schema = "My \"schema\"; [x] Größe";

    public static readonly OutboxTables InSchema = new(Schema, "out\"box [1]; --", "Dead'letter `2` 死信 {0}", "in.box 3 % @id $1 :x");

    public static readonly OutboxTables WithoutSchema = InSchema with { Schema = null };

    // EF Core keeps a model for each set of services it is given: this one is not that of the other databases.
    public static void Use<TNames>(DbContextOptionsBuilder options)
        where TNames : IModelCustomizer => options.ReplaceService<IModelCustomizer, TNames>();

    private static void Give(ModelBuilder model, DbContext context, OutboxTables tables)
    {
        model.Entity<Order>().ToTable("Orders \"of\" [today]", tables.Schema);
        model.Entity<OrderProgress>().ToTable("Order's \"progress\"; --", tables.Schema).Property(saga => saga.CorrelationId).HasColumnName("key \"1\" {0}");
        model.AddOutboxBus(context.Database, names =>
            (names.Schema, names.OutboxTable, names.DeadLetterTable, names.InboxTable) = (tables.Schema, tables.Outbox, tables.DeadLetter, tables.Inbox));
    }

    public sealed class OnPostgreSql(ModelCustomizerDependencies dependencies) : RelationalModelCustomizer(dependencies)
    {
        public override void Customize(ModelBuilder modelBuilder, DbContext context)
        {
            base.Customize(modelBuilder, context);
            Give(modelBuilder, context, InSchema);
        }
    }

    public sealed class OnSqlite(ModelCustomizerDependencies dependencies) : RelationalModelCustomizer(dependencies)
    {
        public override void Customize(ModelBuilder modelBuilder, DbContext context)
        {
            base.Customize(modelBuilder, context);
            Give(modelBuilder, context, WithoutSchema);
        }
    }
}

public sealed class HostilePostgreSqlDatabase : PostgreSqlDatabase
{
    public override OutboxTables Tables => HostileNames.InSchema;

    public override void Configure(DbContextOptionsBuilder options, string connectionString)
    {
        base.Configure(options, connectionString);
        HostileNames.Use<HostileNames.OnPostgreSql>(options);
    }
}

public sealed class HostileSqliteDatabase : SqliteDatabase
{
    public override OutboxTables Tables => HostileNames.WithoutSchema;

    public override void Configure(DbContextOptionsBuilder options, string connectionString)
    {
        base.Configure(options, connectionString);
        HostileNames.Use<HostileNames.OnSqlite>(options);
    }
}
