using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Messages that are published neither by the request nor by the handler itself: by interceptors, by the context, by filters.
public sealed class WhilePublishingElsewhere(SqliteDatabase database) : SuiteOn<SqliteDatabase>(database)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Message_of_an_interceptor_rides_the_save_that_it_intercepts(bool interceptorFirst)
    {
        // The order of registrations decides whose interceptor runs first.
        var interceptor = new PublishOnSave();
        void AddInterceptor(IServiceCollection services) => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(interceptor));
        await using var shop = Shop.Create(
            Database,
            bus: outbox => outbox.MassTransit(x =>
            {
                if (!interceptorFirst)
                    AddInterceptor(x);
            }),
            services: services =>
            {
                if (interceptorFirst)
                    AddInterceptor(services);
            });

        await using var scope = shop.Scope();
        interceptor.Outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();
        var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
        db.Add(new Order { Number = "A-1" });
        (await db.SaveChangesAsync()).Should().Be(1);

        (await CountAsync<Envelope>()).Should().Be(1);
        shop.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task Handler_whose_context_publishes_while_it_saves_succeeds()
    {
        var interceptor = new PublishOnSave();
        await OrderIsPlacedAndArrivesAsync(interceptor, services: services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(interceptor)));
    }

    [Fact]
    public async Task Message_published_after_the_rows_are_written_is_saved_with_the_handler()
    {
        var interceptor = new PublishOnSave();
        await OrderIsPlacedAndArrivesAsync(interceptor, services: services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(new PublishAfterSave(interceptor))));
    }

    [Fact]
    public async Task Message_published_after_the_rows_are_written_goes_with_the_next_save_or_is_reported()
    {
        var interceptor = new PublishOnSave();
        await using var shop = Shop.Create(Database, services: services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(new PublishAfterSave(interceptor))));

        await using (var scope = shop.Scope())
        {
            interceptor.Outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();
            var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
            db.Add(new Order { Number = "A-5" });
            (await db.SaveChangesAsync()).Should().Be(1);
            (await CountAsync<Envelope>()).Should().Be(0);
            await db.SaveChangesAsync();
            (await CountAsync<Envelope>()).Should().Be(1);
        }

        shop.Errors.Should().BeEmpty();
        await using (var scope = shop.Scope())
        {
            interceptor.Outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();
            var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
            db.Add(new Order { Number = "A-6" });
            await db.SaveChangesAsync();
        }

        (await CountAsync<Envelope>()).Should().Be(1);
        shop.Errors.Should().ContainSingle().Which.Should().Contain("never saved");
    }

    [Fact]
    public async Task Handler_that_ends_the_transaction_fails_before_anything_is_saved_outside_it()
    {
        await using var shop = Shop.Create(
            Database,
            delivers: true,
            bus: outbox => outbox.AddHandler<EndTransactionHandler>(handler => handler.RetryDelays = []));
        await shop.StartAsync();

        await shop.Services.GetRequiredService<IBus>().Publish(new PlaceOrder("A-7"));

        await Eventually.BecomesAsync(() => EndTransactionHandler.Runs > 0, "the handler has run");
        await shop.StopAsync();
        (await CountAsync<Order>()).Should().Be(0);
        (await CountAsync<InboxMessage>()).Should().Be(0);
        (await CountAsync<Envelope>()).Should().Be(0);
    }

    [Fact]
    public async Task Message_of_a_filter_outside_the_inbox_is_sent_with_those_of_the_handler()
    {
        await OrderIsPlacedAndArrivesAsync(
            new PublishOnSave(),
            bus: outbox => outbox.MassTransit(x => x.AddConfigureEndpointsCallback((context, name, endpoint) =>
            {
                if (name == "place-order")
                    endpoint.UseConsumeFilter(typeof(PublishBefore<>), context);
            })));
    }

    [Fact]
    public async Task Context_without_the_interceptor_stops_the_start_with_the_remedy()
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        var options = new DbContextOptionsBuilder<ShopDb>();
        Database.Configure(options, Database.ConnectionString);
        builder.Services.AddScoped(_ => new ShopDb(options.Options));
        builder.Services.AddLogging();
        builder.Services.AddOutboxBus(outbox => outbox.UseEntityFrameworkCore<ShopDb>(Database.Choose).UseInMemory());
        using var host = builder.Build();

        var start = () => host.StartAsync();

        await start.Should().ThrowAsync<OutboxBusException>().WithMessage("*without the interceptor*AddDbContext*");
    }

    // The order is saved once, and exactly one message that somebody published meanwhile arrives.
    private async Task OrderIsPlacedAndArrivesAsync(PublishOnSave interceptor, Action<IServiceCollection>? services = null, Action<OutboxBusConfigurator>? bus = null)
    {
        var arrived = new Arrived();
        await using var shop = Shop.Create(
            Database,
            delivers: true,
            bus: outbox =>
            {
                outbox.AddHandler<PlaceOrderHandler>().AddHandler<OrderPlacedHandler>();
                bus?.Invoke(outbox);
            },
            services: collection =>
            {
                collection.AddSingleton(interceptor).AddSingleton(arrived);
                services?.Invoke(collection);
            });
        await shop.StartAsync();

        await shop.Services.GetRequiredService<IBus>().Publish(new PlaceOrder("A-2"));

        await Eventually.BecomesAsync(() => arrived.Count == 1, "the message published beside the handler has arrived");
        (await CountAsync<Order>()).Should().Be(1);
        await shop.StopAsync();
        arrived.Count.Should().Be(1);
    }

    private async Task<int> CountAsync<T>()
        where T : class
    {
        await using var context = Database.CreateShop();
        return await context.Set<T>().CountAsync();
    }

    public sealed record PlaceOrder(string Number);

    public sealed class PlaceOrderHandler(ShopDb db, PublishOnSave interceptor, IOutboxContext outbox) : IMessageHandler<PlaceOrder>
    {
        public Task Handle(PlaceOrder message, IMessageContext context, CancellationToken cancellationToken)
        {
            interceptor.Outbox = outbox;
            db.Add(new Order { Number = message.Number });
            return Task.CompletedTask;
        }
    }

    public sealed class EndTransactionHandler(ShopDb db) : IMessageHandler<PlaceOrder>
    {
        public static int Runs { get; private set; }

        public async Task Handle(PlaceOrder message, IMessageContext context, CancellationToken cancellationToken)
        {
            await db.Database.RollbackTransactionAsync(cancellationToken);
            db.Add(new Order { Number = message.Number });
            await context.Publish(new OrderPlaced(message.Number), cancellationToken: cancellationToken);
            Runs++;
        }
    }

    public sealed class OrderPlacedHandler(Arrived arrived) : IMessageHandler<OrderPlaced>
    {
        public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref arrived.Count);
            return Task.CompletedTask;
        }
    }

    public sealed class Arrived
    {
#pragma warning disable CA1051 // incremented from handlers
        public int Count;
#pragma warning restore CA1051
    }

    public sealed class PublishBefore<T>(IPublishEndpoint publisher) : IFilter<ConsumeContext<T>>
        where T : class
    {
        public async Task Send(ConsumeContext<T> context, IPipe<ConsumeContext<T>> next)
        {
            await publisher.Publish(new OrderPlaced("from the filter"));
            await next.Send(context);
        }

        public void Probe(ProbeContext context)
        {
        }
    }

    // Publishes once for each scope it is given, after the save, as late senders of domain events do.
    public sealed class PublishAfterSave(PublishOnSave scope) : SaveChangesInterceptor
    {
        public override async ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
        {
            if (scope.Outbox is { } outbox)
            {
                scope.Outbox = null;
                await outbox.Publish(new OrderPlaced("after the save"), cancellationToken: cancellationToken);
            }

            return result;
        }
    }

    // Publishes once per order that is about to be saved, as domain events do.
    public sealed class PublishOnSave : SaveChangesInterceptor
    {
        public IOutboxContext? Outbox { get; set; }

        public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
        {
            foreach (var order in eventData.Context!.ChangeTracker.Entries<Order>().Where(entry => entry.State == EntityState.Added).ToList())
                await Outbox!.Publish(new OrderPlaced(order.Entity.Number), cancellationToken: cancellationToken);
            return result;
        }
    }
}
