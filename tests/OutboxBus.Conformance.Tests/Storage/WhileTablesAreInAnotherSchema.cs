using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// The tables are where the model or the connection says, and tables of the same name elsewhere are somebody else's.
public sealed class WhileTablesAreInAnotherSchema(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const string Schema = "Shop north";

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Messages_are_stored_claimed_and_consumed_there_and_nowhere_else(bool bySearchPath)
    {
        var connectionString = await CreateAsync(bySearchPath);
        await using (var publisher = Create(connectionString, bySearchPath, delivers: false))
            await PublishAsync(publisher, "left by another process");
        await using var shop = Create(connectionString, bySearchPath, delivers: true);
        var arrivals = shop.Services.GetRequiredService<Arrivals>();

        await shop.StartAsync();
        await PublishAsync(shop, "handed off");
        await Eventually.BecomesAsync(() => arrivals.Numbers.Count >= 2, "both messages have arrived");
        await shop.StopAsync();

        arrivals.Numbers.Should().BeEquivalentTo(["left by another process", "handed off"]);
        await using (var context = New(connectionString, bySearchPath))
            (await CountAsync(context)).Should().Be((0, 2, 2));
        await using var elsewhere = Database.CreateShop(new NpgsqlConnectionStringBuilder(connectionString) { SearchPath = null }.ConnectionString);
        (await CountAsync(elsewhere)).Should().Be((1, 0, 0));
        (await elsewhere.Set<Envelope>().SingleAsync()).ClaimCount.Should().Be(0);
    }

    // Two sets of tables in one database: in the schema "public", where a message is due, and in the one to be used.
    private async Task<string> CreateAsync(bool bySearchPath)
    {
        var connectionString = await Database.CreateAsync();
        await using (var elsewhere = Database.CreateShop(connectionString))
        {
            await elsewhere.Database.EnsureCreatedAsync();
            elsewhere.Add(new Envelope { MessageId = Guid.NewGuid(), VisibleAt = DateTime.UnixEpoch, MessageType = "urn:message:Elsewhere" });
            await elsewhere.SaveChangesAsync();
            await elsewhere.Database.ExecuteSqlRawAsync($"create schema \"{Schema}\"");
        }

        if (bySearchPath)
            connectionString = new NpgsqlConnectionStringBuilder(connectionString) { SearchPath = $"\"{Schema}\"" }.ConnectionString;
        await using var context = New(connectionString, bySearchPath);
        // Not EnsureCreated, which is content with tables in any schema.
        await context.GetService<IRelationalDatabaseCreator>().CreateTablesAsync();
        return connectionString;
    }

    private Shop Create(string connectionString, bool bySearchPath, bool delivers) => Shop.Create(
        Database,
        bus => bus.AddHandler<Arrivals.Handler>(),
        services => services.AddSingleton<Arrivals>(),
        options => Map(options, bySearchPath),
        delivers,
        connectionString: connectionString);

    private ShopDb New(string connectionString, bool bySearchPath)
    {
        var options = new DbContextOptionsBuilder<ShopDb>();
        Database.Configure(options, connectionString);
        Map(options, bySearchPath);
        return new ShopDb(options.Options);
    }

    private static void Map(DbContextOptionsBuilder options, bool bySearchPath)
    {
        if (!bySearchPath)
            options.ReplaceService<IModelCustomizer, InSchema>();
    }

    private static Task PublishAsync(Shop shop, string number) => shop.InScopeAsync(async (db, outbox) =>
    {
        db.Add(new Order { Number = number });
        await outbox.Publish(new OrderPlaced(number));
        await db.SaveChangesAsync();
    });

    private static async Task<(int Outbox, int Inbox, int Orders)> CountAsync(ShopDb context)
        => (await context.Set<Envelope>().CountAsync(), await context.Set<InboxMessage>().CountAsync(), await context.Orders.CountAsync());

    private sealed class InSchema(ModelCustomizerDependencies dependencies) : RelationalModelCustomizer(dependencies)
    {
        public override void Customize(ModelBuilder modelBuilder, DbContext context)
        {
            modelBuilder.HasDefaultSchema(Schema);
            base.Customize(modelBuilder, context);
        }
    }
}
