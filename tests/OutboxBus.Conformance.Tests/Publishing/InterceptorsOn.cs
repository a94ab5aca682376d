using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Interceptors of the application publish, fail and save, before and after the one of OutboxBus, in synchronous and asynchronous saves.
public abstract class InterceptorsOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_message_published_while_saving_rides_that_save(bool first, bool synchronous)
    {
        var interceptor = new Interceptor { Saving = PublishOrders };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            request.Db.Add(new Order { Number = "A-1" });
            (await SaveAsync(request.Db, synchronous)).Should().Be(1, "the caller counts its own rows");
            await ArriveAsync(shop, "A-1");
        });

        await SentAloneAsync(shop, "A-1");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_message_published_after_saving_rides_the_next_save(bool first, bool synchronous)
    {
        var interceptor = new Interceptor();
        interceptor.Saved = (_, outbox) =>
        {
            interceptor.Saved = null;
            Now(outbox.Publish(new OrderPlaced("A-1")));
        };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            request.Db.Add(new Order { Number = "A-1" });
            (await SaveAsync(request.Db, synchronous)).Should().Be(1);
            (await MessagesAsync()).Should().BeEmpty();
            (await SaveAsync(request.Db, synchronous)).Should().Be(0);
            await ArriveAsync(shop, "A-1");
        });

        await SentAloneAsync(shop, "A-1");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_message_published_and_saved_after_saving_is_sent_with_the_first(bool first, bool synchronous)
    {
        var interceptor = new Interceptor();
        interceptor.Saved = (db, outbox) =>
        {
            interceptor.Saved = null;
            Now(outbox.Publish(new OrderPlaced("second")));
            db.SaveChanges();
        };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            await request.PlaceAsync("A-1");
            await SaveAsync(request.Db, synchronous);
            await ArriveAsync(shop, "A-1", "second");
        });

        await SentAloneAsync(shop, "A-1", "second");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_failure_after_saving_does_not_take_back_what_is_committed(bool first, bool synchronous)
    {
        var interceptor = new Interceptor();
        interceptor.Saved = (_, _) =>
        {
            interceptor.Saved = null;
            throw new TimeoutException("no time to be told");
        };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            await request.PlaceAsync("A-1");
            await request.Awaiting(failing => SaveAsync(failing.Db, synchronous)).Should().ThrowAsync<TimeoutException>();
            await ArriveAsync(shop, "A-1");
            (await SaveAsync(request.Db, synchronous)).Should().Be(0);
        });

        (await OrdersAsync()).Should().Equal("A-1");
        await SentAloneAsync(shop, "A-1");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_save_that_is_refused_and_repaired_stores_its_message_once(bool first, bool synchronous)
    {
        var interceptor = new Interceptor
        {
            Saving = (db, _) =>
            {
                if (db.ChangeTracker.Entries<Order>().Any(entry => entry.Entity.Number == ""))
                    throw new InvalidOperationException("an order needs a number");
            },
        };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            var order = new Order();
            request.Db.Add(order);
            await request.Outbox.Publish(new OrderPlaced("A-1"));
            await request.Awaiting(refused => SaveAsync(refused.Db, synchronous)).Should().ThrowAsync<InvalidOperationException>();
            order.Number = "A-1";
            await request.Outbox.Publish(new OrderPlaced("A-2"));
            (await SaveAsync(request.Db, synchronous)).Should().Be(1);
        });

        await SentAloneAsync(shop, "A-1", "A-2");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task A_save_within_the_end_of_another_does_not_lengthen_its_lease()
    {
        var clock = new FakeTimeProvider();
        var interceptor = new Interceptor();
        interceptor.Saved = (db, outbox) =>
        {
            interceptor.Saved = null;
            clock.Advance(TimeSpan.FromSeconds(20));
            Now(outbox.Publish(new OrderPlaced("second")));
            db.SaveChanges();
        };
        await using var shop = Shop.Create(
            Database,
            services: services => services.AddSingleton<TimeProvider>(clock).ConfigureDbContext<ShopDb>(options => options.AddInterceptors(interceptor)),
            delivers: true);
        var begun = clock.GetTimestamp();
        await InScopeAsync(shop, interceptor, request => request.PlaceAndSaveAsync("A-1"));

        shop.HandOff.TryTake(out var first).Should().BeTrue();
        // Two column defaults read the clock one after the other: hence the tolerance.
        clock.GetElapsedTime(begun, first.Envelopes.Single().LeaseEnds).Should().BeLessThan(TimeSpan.FromSeconds(35));
        shop.HandOff.TryTake(out _).Should().BeTrue();
        shop.HandOff.IsEmpty.Should().BeTrue();
    }

    // With work of its own in the change tracker, which must not pass for the save's.
    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_failure_after_saving_with_more_to_save_does_not_store_the_message_again(bool first, bool synchronous)
    {
        var interceptor = new Interceptor();
        interceptor.Saved = (db, _) =>
        {
            interceptor.Saved = null;
            db.Add(new Order { Number = "A-2" });
            throw new TimeoutException("no time to be told");
        };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            await request.PlaceAsync("A-1");
            await request.Db.Awaiting(failing => SaveAsync(failing, synchronous)).Should().ThrowAsync<TimeoutException>();
            await SaveAsync(request.Db, synchronous);
        });

        (await OrdersAsync()).Should().Equal("A-1", "A-2");
        await SentAloneAsync(shop, "A-1");
    }

    // Looking at the change tracker makes EF Core look for changes before the save itself does: what it finds is not the last word.
    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_save_whose_rows_an_interceptor_takes_away_still_saves_its_messages(bool first, bool synchronous)
    {
        var interceptor = new Interceptor
        {
            Saving = (db, _) =>
            {
                foreach (var order in db.ChangeTracker.Entries<Order>().ToList())
                    order.State = EntityState.Detached;
            },
        };
        await using var shop = await DeliveringAsync(interceptor, first);
        await InScopeAsync(shop, interceptor, async request =>
        {
            await request.PlaceAsync("A-1");
            (await SaveAsync(request.Db, synchronous)).Should().Be(0);
            await ArriveAsync(shop, "A-1");
        });

        (await OrdersAsync()).Should().BeEmpty();
        await SentAloneAsync(shop, "A-1");
        shop.Errors.Should().BeEmpty();
    }

    private static void PublishOrders(DbContext db, IOutboxContext outbox)
    {
        foreach (var order in db.ChangeTracker.Entries<Order>().Where(entry => entry.State == EntityState.Added))
            Now(outbox.Publish(new OrderPlaced(order.Entity.Number)));
    }

    // Capture waits for nobody, so that synchronous code may publish too.
    private static void Now(Task published)
    {
        published.IsCompleted.Should().BeTrue();
        published.GetAwaiter().GetResult();
    }

    private static Task<int> SaveAsync(ShopDb db, bool synchronous) => synchronous ? Task.FromResult(db.SaveChanges()) : db.SaveChangesAsync();

    // The order of registrations decides whose interceptor runs first.
    private async Task<Shop> DeliveringAsync(Interceptor interceptor, bool first)
    {
        void Add(IServiceCollection services) => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(interceptor));
        var shop = Shop.Create(
            Database,
            bus =>
            {
                bus.AddHandler<Arrivals.Handler>();
                if (!first)
                    bus.MassTransit(Add);
            },
            services =>
            {
                services.AddSingleton<Arrivals>();
                if (first)
                    Add(services);
            },
            delivers: true);
        await shop.StartAsync();
        return shop;
    }

    private static Task InScopeAsync(Shop shop, Interceptor interceptor, Func<Request, Task> act) => InScopeAsync(shop, async request =>
    {
        interceptor.Scope = (request.Db, request.Outbox);
        await act(request);
        interceptor.Scope = null;
    });

    private sealed class Interceptor : SaveChangesInterceptor
    {
        public (DbContext Db, IOutboxContext Outbox)? Scope { get; set; }

        public Action<DbContext, IOutboxContext>? Saving { get; init; }

        public Action<DbContext, IOutboxContext>? Saved { get; set; }

        public override InterceptionResult<int> SavingChanges(DbContextEventData eventData, InterceptionResult<int> result)
        {
            if (Scope is { } scope && scope.Db == eventData.Context)
                Saving?.Invoke(scope.Db, scope.Outbox);
            return result;
        }

        public override ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
            => new(SavingChanges(eventData, result));

        public override int SavedChanges(SaveChangesCompletedEventData eventData, int result)
        {
            if (Scope is { } scope && scope.Db == eventData.Context)
                Saved?.Invoke(scope.Db, scope.Outbox);
            return result;
        }

        public override ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
            => new(SavedChanges(eventData, result));
    }
}

public sealed class InterceptorsOnSqlite(SqliteDatabase database) : InterceptorsOn<SqliteDatabase>(database);

public sealed class InterceptorsOnPostgreSql(PostgreSqlDatabase database) : InterceptorsOn<PostgreSqlDatabase>(database);
