using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.TestHost;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OutboxBus.Testing.Shop;

namespace OutboxBus.Testing.Tests;

// The shop, hosted without its Program, so that a test may choose how it is registered.
public static class ShopHost
{
    public static async Task<WebApplication> StartAsync(Action<IServiceCollection> add, Action<OutboxBusTestHarnessOptions>? configure = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseTestServer();
        builder.Logging.ClearProviders();
        add(builder.Services);
        builder.Services.AddOutboxBusTestHarness(configure);
        var app = builder.Build();
        app.MapShop();
        await app.StartAsync();
        return app;
    }

    public static async Task InScopeAsync(this IHost app, Func<ShopDb, IOutboxContext, Task> act)
    {
        await using var scope = app.Services.CreateAsyncScope();
        await act(scope.ServiceProvider.GetRequiredService<ShopDb>(), scope.ServiceProvider.GetRequiredService<IOutboxContext>());
    }

    public static Task PlaceAsync(this IHost app, Guid order, string sku) => app.InScopeAsync(async (db, outbox) =>
    {
        db.Add(new Order { Id = order, Sku = sku });
        await outbox.Publish(new OrderPlaced(order, sku));
        await db.SaveChangesAsync();
    });

    public static async Task<int> ReservationsAsync(this IHost app)
    {
        var count = 0;
        await app.InScopeAsync(async (db, _) => count = await db.Reservations.CountAsync());
        return count;
    }
}
