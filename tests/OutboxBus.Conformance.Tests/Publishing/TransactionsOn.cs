using System.Text.Json;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;

namespace OutboxBus.Conformance.Tests.Publishing;

// What each way to use transactions has to prove: the same orders and messages are stored, and exactly those messages are sent.
public abstract class TransactionsOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private bool _leasesEnded;

    // The request runs in two applications: one without delivery, whose rows are looked at, and one that delivers.
    private protected async Task StoresAndSendsAsync(Func<Request, Task> request, string[] expected, Action<DbContextOptionsBuilder>? context = null, bool pooled = false, int errors = 0)
    {
        await using (var shop = Shop.Create(Database, context: context, pooled: pooled))
        {
            await InScopeAsync(shop, request);
            (await OrdersAsync()).Should().Equal(expected);
            (await MessagesAsync()).Should().Equal(expected);
            shop.Errors.Should().HaveCount(errors);
        }

        await Database.ClearAsync();
        await using var delivering = await DeliveringAsync(context, pooled);
        await InScopeAsync(delivering, request);
        (await OrdersAsync()).Should().Equal(expected);
        await SentAloneAsync(delivering, expected);
        delivering.Errors.Should().HaveCount(errors);
    }

    private protected async Task<Shop> DeliveringAsync(Action<DbContextOptionsBuilder>? context = null, bool pooled = false, Action<IServiceCollection, Action<DbContextOptionsBuilder>>? register = null)
    {
        var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<Arrivals.Handler>(),
            services => services.AddSingleton<Arrivals>(),
            context,
            delivers: true,
            pooled,
            register: register);
        await shop.StartAsync();
        return shop;
    }

    // These arrive, each once, and no other message was sent; delivery's next turn, forced by one more message, has had a look at everything.
    private protected async Task SentAloneAsync(Shop shop, params string[] expected)
    {
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new OrderPlaced("last"));
            await db.SaveChangesAsync();
        });
        string[] all = [.. expected, "last"];
        await ArriveAsync(shop, all);
        await shop.StopAsync();

        shop.Sent.Should().HaveCount(all.Length);
        if (!_leasesEnded)
            shop.Sent.Should().OnlyContain(envelope => envelope.ClaimCount == 0, "each is sent when it is committed, and not when its lease ends");
        shop.Services.GetRequiredService<Arrivals>().Numbers.Should().BeEquivalentTo(all);
        (await MessagesAsync()).Should().BeEmpty("what is sent is deleted, and nothing else was stored");
    }

    private protected static Task ArriveAsync(Shop shop, params string[] numbers)
    {
        var arrivals = shop.Services.GetRequiredService<Arrivals>();
        return Eventually.BecomesAsync(() => numbers.All(arrivals.Contains), $"{string.Join(", ", numbers)} have arrived");
    }

    private protected static async Task InScopeAsync(Shop shop, Func<Request, Task> request)
    {
        await using var scope = shop.Scope();
        await request(new Request(scope.ServiceProvider));
    }

    // Fresh rows are leased to the process that wrote them; this is what happens when their lease ends.
    private protected async Task EndLeasesAsync()
    {
        _leasesEnded = true;
        await using var context = Database.CreateShop();
        await context.Set<Envelope>().ExecuteUpdateAsync(rows => rows.SetProperty(row => row.VisibleAt, DateTime.UnixEpoch));
    }

    private protected async Task<List<string>> OrdersAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Orders.OrderBy(order => order.Id).Select(order => order.Number).ToListAsync();
    }

    private protected async Task<List<string>> MessagesAsync()
    {
        await using var context = Database.CreateShop();
        var rows = await context.Set<Envelope>().AsNoTracking().OrderBy(row => row.Id).ToListAsync();
        return rows.ConvertAll(row => JsonDocument.Parse(row.Body).RootElement.GetProperty("message").GetProperty("number").GetString()!);
    }

    // One request to the application, or one click in it.
    private protected sealed record Request(IServiceProvider Services)
    {
        public ShopDb Db => Services.GetRequiredService<ShopDb>();

        public IOutboxContext Outbox => Services.GetRequiredService<IOutboxContext>();

        public Task PlaceAsync(string number) => PlaceAsync(Db, number);

        public Task PlaceAsync(DbContext context, string number)
        {
            context.Add(new Order { Number = number });
            return Outbox.Publish(new OrderPlaced(number));
        }

        public async Task PlaceAndSaveAsync(string number)
        {
            await PlaceAsync(number);
            await Db.SaveChangesAsync();
        }
    }
}
