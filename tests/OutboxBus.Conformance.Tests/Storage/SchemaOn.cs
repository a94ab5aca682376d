using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using OutboxBus.EntityFrameworkCore;
using OutboxBus.EntityFrameworkCore.Storage;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// The tables are the same whoever created them, and whatever they are called.
public abstract class SchemaOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private static readonly TimeSpan FreshRowLease = new OutboxSchemaOptions().FreshRowLease;

    // A schema that must be quoted; null where the engine has none.
    protected abstract string? HostileSchema { get; }

    [SkippableFact]
    public async Task The_model_and_the_script_create_the_same_tables()
    {
        var byModel = await CreatedByModelAsync<TablesDb>();
        var byScript = await Database.CreateAsync();
        await RunScriptAsync(byScript, new OutboxTables());

        var expected = await CatalogAsync(byModel);
        Differences(expected, await CatalogAsync(byScript)).Should().BeEmpty();
        expected.Count.Should().BeGreaterThan(50, "an empty catalog would prove nothing");
    }

    [SkippableFact]
    public async Task The_model_and_the_script_create_the_same_tables_under_hostile_names()
    {
        var tables = HostileTables(HostileSchema);
        var byModel = await CreatedByModelAsync<OddlyNamedDb>();
        var byScript = await Database.CreateAsync();
        await RunScriptAsync(byScript, tables);

        Differences(await CatalogAsync(byModel), await CatalogAsync(byScript)).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task The_script_may_run_again()
    {
        var connectionString = await Database.CreateAsync();
        await RunScriptAsync(connectionString, new OutboxTables());
        var once = await CatalogAsync(connectionString);

        await RunScriptAsync(connectionString, new OutboxTables());

        (await CatalogAsync(connectionString)).Should().Equal(once);
    }

    [SkippableFact]
    public async Task Every_statement_runs_on_tables_with_hostile_names()
    {
        var connectionString = await CreatedByModelAsync<OddlyNamedDb>();
        var tables = HostileTables(HostileSchema);
        var store = Database.CreateStore(tables, connectionString);
        await InsertAsync(connectionString, 4);

        await store.CheckSchemaAsync(default);
        (await store.StatusAsync("main", 10, default)).Pending.Should().Be(4);
        var claimed = await store.ClaimAsync("main", 10, TimeSpan.FromMinutes(1), default);
        (await store.VerifyAsync(claimed, default)).Should().Equal(claimed);
        await store.SettleAsync(
            new SettlementBatch(
                [claimed[0], claimed[1]],
                [new Rescheduling(claimed[2], TimeSpan.Zero, 1, 0, "again")],
                [new Burial(claimed[3], DeadLetterReason.Refused, 1, "no")]),
            default);
        (await store.StatusAsync("main", 10, default)).Should().BeEquivalentTo(new { Pending = 1, DeadLetters = 1 });

        var key = new InboxKey(Guid.NewGuid(), "stock");
        await using (var connection = await Database.OpenAsync(connectionString))
        {
            await using var command = connection.CreateCommand();
            Database.CreateDialect(tables).RecordConsumed(command, key);
            await command.ExecuteNonQueryAsync();
        }

        (await store.IsConsumedAsync(key, default)).Should().BeTrue();
        await Eventually.BecomesAsync(
            async () => await store.PurgeInboxAsync(TimeSpan.Zero, 10, default) == 1, "the record, past a retention of nothing, is purged");
    }

    [SkippableTheory]
    [InlineData("")]
    [InlineData("  ")]
    [InlineData("a\nb")]
    [InlineData("a23456789b123456789c123456789d123456789e123456789f123456789g1234")]
    public void A_name_that_is_no_identifier_is_refused(string name)
        => FluentActions.Invoking(() => Database.CreateDialect(new OutboxTables(Outbox: name))).Should().Throw<OutboxBusException>().WithMessage("*outbox table*AddOutboxBus*");

    [SkippableFact]
    public async Task A_complete_schema_passes_the_check_at_start() => await Database.CreateStore().CheckSchemaAsync(default);

    [SkippableTheory]
    [InlineData("drop table outbox_message")]
    [InlineData("drop table outbox_dead_letter")]
    [InlineData("drop table inbox_message")]
    [InlineData("alter table outbox_message rename column ordering_key to something_else")]
    [InlineData("alter table outbox_dead_letter rename column reason to something_else")]
    [InlineData("alter table inbox_message rename column generation to something_else")]
    public async Task A_missing_table_or_column_is_named_with_its_remedy(string damage)
    {
        var connectionString = await CreatedByModelAsync<TablesDb>();
        await ExecuteAsync(connectionString, damage);

        var check = () => Database.CreateStore(connectionString: connectionString).CheckSchemaAsync(default);

        await check.Should().ThrowAsync<OutboxBusException>().WithMessage("*missing or incomplete*Remedy:*AddOutboxBus(Database)*migration*CreateScript*");
    }

    [SkippableFact]
    public async Task A_host_does_not_start_on_a_database_without_the_tables()
    {
        var empty = await Database.CreateAsync();
        await using var shop = Shop.Create(Database, connectionString: empty);

        await shop.Awaiting(host => host.StartAsync()).Should().ThrowAsync<OutboxBusException>().WithMessage("*Remedy:*");
    }

    [SkippableFact]
    public void A_model_without_the_tables_is_named_with_its_remedy()
    {
        using var services = new ServiceCollection().AddDbContext<BareDb>(Database.Configure).BuildServiceProvider();
        var outbox = new DbContextDatabase<BareDb>(services.GetRequiredService<IServiceScopeFactory>(), Database.CreateDialect);

        FluentActions.Invoking(() => outbox.Dialect).Should().Throw<OutboxBusException>().WithMessage("*BareDb*Remedy: call modelBuilder.AddOutboxBus(Database)*");
    }

    [SkippableFact]
    public void A_dialect_that_does_not_fit_the_provider_is_named_with_its_remedy()
    {
        using var services = new ServiceCollection().AddDbContext<ShopDb>(Database.Configure).BuildServiceProvider();
        var outbox = new DbContextDatabase<ShopDb>(services.GetRequiredService<IServiceScopeFactory>(), OtherDialect);

        FluentActions.Invoking(() => outbox.Dialect).Should().Throw<OutboxBusException>().WithMessage("*ShopDb*configured for*Remedy: choose the matching Use... method*");
    }

    [SkippableFact]
    public async Task The_lease_of_fresh_rows_is_that_of_the_model()
    {
        var connectionString = await CreatedByModelAsync<ShortLeaseDb>();
        await using var context = new ShortLeaseDb(Database.OptionsOf<ShortLeaseDb>(connectionString));
        var row = new Envelope { MessageId = Guid.NewGuid() };
        context.Add(row);
        await context.SaveChangesAsync();

        // The two defaults read the clock one after the other.
        (row.VisibleAt - row.CreatedAt).Should().BeCloseTo(ShortLeaseDb.Lease, TimeSpan.FromSeconds(1));
        context.Database.GenerateCreateScript().Should().Contain("1500");
    }

    [SkippableTheory]
    [InlineData(0.9)]
    [InlineData(3601)]
    public void A_lease_out_of_range_is_refused(double seconds)
    {
        using var context = Database.CreateShop();
        var map = () => new ModelBuilder().AddOutboxBus(context.Database, options => options.FreshRowLease = TimeSpan.FromSeconds(seconds));

        map.Should().Throw<OutboxBusException>().WithMessage("FreshRowLease*");
    }

    private protected static OutboxTables HostileTables(string? schema) => new(schema, "out\"box [1]; --", "dead'letter `2`", "in.box 3 %");

    private static SqlDialect OtherDialect(OutboxTables tables)
        => typeof(TDatabase) == typeof(SqliteDatabase) ? new OutboxBus.PostgreSql.PostgreSqlDialect(tables) : new OutboxBus.Sqlite.SqliteDialect(tables);

    private static IEnumerable<string> Differences(IReadOnlyList<string> byModel, IReadOnlyList<string> byScript)
        => byModel.Except(byScript).Select(line => $"only the model: {line}").Concat(byScript.Except(byModel).Select(line => $"only the script: {line}"));

    private async Task<string> CreatedByModelAsync<T>()
        where T : DbContext
    {
        var connectionString = await Database.CreateAsync();
        await using var context = (T)Activator.CreateInstance(typeof(T), Database.OptionsOf<T>(connectionString))!;
        await context.GetService<IRelationalDatabaseCreator>().EnsureCreatedAsync();
        return connectionString;
    }

    private Task RunScriptAsync(string connectionString, OutboxTables tables)
        => ExecuteAsync(connectionString, Database.CreateDialect(tables).CreateScript(FreshRowLease));

    private async Task ExecuteAsync(string connectionString, string sql)
    {
        await using var connection = await Database.OpenAsync(connectionString);
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }

    private async Task<IReadOnlyList<string>> CatalogAsync(string connectionString)
    {
        await using var connection = await Database.OpenAsync(connectionString);
        return await Database.CatalogAsync(connection);
    }

    private async Task InsertAsync(string connectionString, int rows)
    {
        await using var context = new OddlyNamedDb(Database.OptionsOf<OddlyNamedDb>(connectionString));
        context.AddRange(Enumerable.Range(0, rows).Select(_ => new Envelope { Bus = "main", VisibleAt = DateTime.UnixEpoch, MessageId = Guid.NewGuid() }));
        await context.SaveChangesAsync();
    }

    private sealed class TablesDb(DbContextOptions<TablesDb> options) : DbContext(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.AddOutboxBus(Database);
    }

    private sealed class OddlyNamedDb(DbContextOptions<OddlyNamedDb> options) : DbContext(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.AddOutboxBus(Database, names =>
        {
            var tables = HostileTables(Database.ProviderName!.EndsWith("Sqlite", StringComparison.Ordinal) ? null : SchemaOnPostgreSql.Schema);
            (names.Schema, names.OutboxTable, names.DeadLetterTable, names.InboxTable) = (tables.Schema, tables.Outbox, tables.DeadLetter, tables.Inbox);
        });
    }

    private sealed class ShortLeaseDb(DbContextOptions<ShortLeaseDb> options) : DbContext(options)
    {
        public static readonly TimeSpan Lease = TimeSpan.FromSeconds(1500);

        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.AddOutboxBus(Database, options => options.FreshRowLease = Lease);
    }

    private sealed class BareDb(DbContextOptions<BareDb> options) : DbContext(options);
}

public sealed class SchemaOnSqlite(SqliteDatabase database) : SchemaOn<SqliteDatabase>(database)
{
    protected override string? HostileSchema => null;
}

public sealed class SchemaOnPostgreSql(PostgreSqlDatabase database) : SchemaOn<PostgreSqlDatabase>(database)
{
    public const string Schema = "my \"schema\"; [x]";

    protected override string? HostileSchema => Schema;
}
