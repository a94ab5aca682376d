using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OutboxBus.MassTransit;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>An application on a stack, made through one of the two entry points.</summary>
internal sealed class App : IAsyncDisposable
{
    private readonly IHost _host;

    private App(IHost host, LogLines logs)
    {
        _host = host;
        Logs = logs;
    }

    public IServiceProvider Services => _host.Services;

    public LogLines Logs { get; }

    public Probe Probe => Services.GetRequiredService<Probe>();

    /// <summary>A new application: <c>services.AddOutboxBus</c>.</summary>
    public static Task<App> StartAsync(Stack stack, Action<OutboxBusConfigurator>? configure = null, Action<IServiceCollection>? services = null)
        => StartAsync(
            stack,
            collection => collection.AddOutboxBus(bus =>
            {
                bus.UseEntityFrameworkCore<ShopDb>(stack.UseEngine);
                stack.UseTransport(bus);
                bus.Delivery(Hurry);
                bus.Inbox(inbox => inbox.Mode = stack.InboxMode);
                configure?.Invoke(bus);
            }),
            services);

    /// <summary>An existing MassTransit application: <c>x.AddOutboxBus</c> inside <c>services.AddMassTransit</c>.</summary>
    public static Task<App> StartMassTransitAsync(
        Stack stack, Action<IBusRegistrationConfigurator>? configure = null, Action<OutboxStoreConfigurator>? store = null, Action<IServiceCollection>? services = null)
        => StartAsync(
            stack,
            collection => collection.AddMassTransit(bus =>
            {
                bus.SetKebabCaseEndpointNameFormatter();
                configure?.Invoke(bus);
                bus.AddOutboxBus<ShopDb>(outbox =>
                {
                    stack.UseEngine(outbox);
                    outbox.Delivery(Hurry);
                    outbox.Inbox(inbox => inbox.Mode = stack.InboxMode);
                    store?.Invoke(outbox);
                });
                stack.UseTransport(bus);
            }),
            services);

    /// <summary>An application whose bus is all the test's own.</summary>
    public static async Task<App> StartAsync(Stack stack, Action<IServiceCollection> addBus, Action<IServiceCollection>? services)
    {
        await using (var db = stack.Open())
            await db.Database.EnsureCreatedAsync();
        var app = Create(stack, addBus, services);
        await app._host.StartAsync();
        return app;
    }

    public async Task InScopeAsync(Func<IServiceProvider, ShopDb, Task> act)
    {
        await using var scope = Services.CreateAsyncScope();
        await act(scope.ServiceProvider, scope.ServiceProvider.GetRequiredService<ShopDb>());
    }

    /// <summary>Commits an order together with one published message.</summary>
    public Task PublishAsync<T>(T message, PublishOptions? options = null)
        where T : class => InScopeAsync(async (services, db) =>
        {
            db.Add(new Order());
            await services.GetRequiredService<IOutboxContext>().Publish(message, options);
            await db.SaveChangesAsync();
        });

    public Task StopAsync() => _host.StopAsync();

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        _host.Dispose();
    }

    /// <summary>Without the schema, and not started.</summary>
    public static (IHost Host, LogLines Logs) CreateHost(Stack stack, Action<OutboxBusConfigurator>? configure = null)
    {
        var app = Create(
            stack,
            collection => collection.AddOutboxBus(bus =>
            {
                bus.UseEntityFrameworkCore<ShopDb>(stack.UseEngine);
                stack.UseTransport(bus);
                bus.Delivery(Hurry);
                configure?.Invoke(bus);
            }),
            null);
        return (app._host, app.Logs);
    }

    private static App Create(Stack stack, Action<IServiceCollection> addBus, Action<IServiceCollection>? services)
    {
        var logs = new LogLines();
        var builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.AddProvider(logs).AddFilter("Microsoft.EntityFrameworkCore", LogLevel.Warning).AddFilter("OutboxBus", LogLevel.Debug);
        builder.Services.AddSingleton<Probe>();
        builder.Services.AddDbContext<ShopDb>(stack.UseDatabase);
        // What is published before a queue is bound would be dropped by the broker.
        builder.Services.Configure<MassTransitHostOptions>(host => host.WaitUntilStarted = true);
        addBus(builder.Services);
        services?.Invoke(builder.Services);
        return new App(builder.Build(), logs);
    }

    private static void Hurry(DeliveryOptions delivery)
    {
        delivery.Lease = ShopDb.Lease;
        delivery.SendTimeout = TimeSpan.FromSeconds(1.5);
        delivery.PollInterval = TimeSpan.FromMilliseconds(100);
        delivery.MinBackoff = TimeSpan.FromMilliseconds(100);
        delivery.MaxBackoff = TimeSpan.FromMilliseconds(500);
        delivery.MaxOutagePause = TimeSpan.FromSeconds(1);
    }
}
