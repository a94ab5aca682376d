using FluentAssertions;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Migrations;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using OutboxBus.MassTransit;
using OutboxBus.Testing.Shop;
using Xunit;

namespace OutboxBus.Testing.Tests;

public sealed class DatabaseTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_application_that_migrates_its_database_when_it_starts_gets_the_tables_of_its_model(bool atOnce)
    {
        using var app = MigratedApp();
        using (var scope = app.Services.CreateScope())
        {
            var database = scope.ServiceProvider.GetRequiredService<MigratedDb>().Database;
            if (atOnce)
                database.Migrate();
            else
                await database.MigrateAsync();
        }

        await app.StartAsync();
        await PublishAsync(app);
        await app.StopAsync();
    }

    [Fact]
    public async Task A_saga_that_is_to_be_kept_optimistically_by_its_row_version_runs()
    {
        await using var app = await ShopHost.StartAsync(services =>
        {
            services.AddDbContext<ShopDb>(options => options.UseNpgsql("Host=192.0.2.1"));
            services.AddOutboxBus(bus => bus
                .UseEntityFrameworkCore<ShopDb>(store => store.UsePostgreSql())
                .UseInMemory()
                .AddSaga<OrderMachine, OrderState>(saga => saga.Repository.Concurrency = SagaConcurrency.Optimistic));
        });
        var (harness, order) = (app.Services.GetOutboxBusTestHarness(), Guid.NewGuid());

        await app.PlaceAsync(order, "shoes");
        await harness.DrainAsync();
        await app.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new OrderPaid(order));
            await db.SaveChangesAsync();
        });
        await harness.DrainAsync();

        await app.InScopeAsync(async (db, _) => (await db.Set<OrderState>().SingleAsync()).CurrentState.Should().Be("Done"));
    }

    [Fact]
    public async Task A_model_with_a_schema_is_none_to_SQLite()
    {
        using var app = MigratedApp();
        await app.StartAsync();
        await PublishAsync(app);
        await app.StopAsync();
    }

    [Fact]
    public async Task A_harness_that_is_disposed_leaves_no_database_behind()
    {
        var connectionString = "";
        await using (var app = await ShopHost.StartAsync(services => services.AddShop()))
        {
            await app.InScopeAsync(async (db, _) => connectionString = db.Database.GetConnectionString()!);
            await app.PlaceAsync(Guid.NewGuid(), "shoes");
            await app.Services.GetOutboxBusTestHarness().DrainAsync();
        }

        await using var afterwards = new SqliteConnection(new SqliteConnectionStringBuilder(connectionString) { Pooling = false }.ToString());
        await afterwards.OpenAsync();
        await using var tables = afterwards.CreateCommand();
        tables.CommandText = "select count(*) from sqlite_master";
        (await tables.ExecuteScalarAsync()).Should().Be(0L);
    }

    private static IHost MigratedApp()
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Services.AddDbContext<MigratedDb>(options => options.UseNpgsql("Host=192.0.2.1"));
        builder.Services.AddOutboxBus(bus => bus.UseEntityFrameworkCore<MigratedDb>(store => store.UsePostgreSql()).UseInMemory());
        builder.Services.AddOutboxBusTestHarness();
        return builder.Build();
    }

    private static async Task PublishAsync(IHost app)
    {
        var harness = app.Services.GetOutboxBusTestHarness();
        await using (var scope = app.Services.CreateAsyncScope())
        {
            await scope.ServiceProvider.GetRequiredService<IOutboxContext>().Publish(new Reminder("kept in a schema"));
            await scope.ServiceProvider.GetRequiredService<MigratedDb>().SaveChangesAsync();
        }

        await harness.DrainAsync();
        harness.Delivered.Of<Reminder>().Should().ContainSingle();
    }
}

public sealed class MigratedDb(DbContextOptions<MigratedDb> options) : DbContext(options)
{
    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.HasDefaultSchema("shop");
        modelBuilder.AddOutboxBus(Database);
    }
}

// As only PostgreSQL could run it.
[DbContext(typeof(MigratedDb))]
[Migration("20261126000000_Extension")]
public sealed class ExtensionMigration : Migration
{
    protected override void Up(MigrationBuilder migrationBuilder) => migrationBuilder.Sql("create extension citext");
}
