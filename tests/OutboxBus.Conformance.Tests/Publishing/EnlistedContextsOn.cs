using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// A scope may publish into contexts other than its own: those of a factory, several at once, one inside the other.
public abstract class EnlistedContextsOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(Origin.Factory)]
    [InlineData(Origin.PooledFactory)]
    [InlineData(Origin.Options)]
    public async Task Everything_the_scope_publishes_rides_the_enlisted_context_until_the_end(Origin origin)
    {
        await using var shop = Shop.Create(Database, register: Register(origin));
        await InScopeAsync(shop, async request =>
        {
            await using var db = await CreateAsync(request, origin);
            await request.Outbox.Publish(new OrderPlaced("scope 1"));
            using (request.Outbox.Enlist(db))
            {
                await request.Outbox.Publish(new OrderPlaced("outbox"));
                await request.Services.GetRequiredService<IPublishEndpoint>().Publish(new OrderPlaced("publish"));
                var endpoint = await request.Services.GetRequiredService<ISendEndpointProvider>().GetSendEndpoint(new Uri("queue:stock"));
                await endpoint.Send(new OrderPlaced("send"));
            }

            await request.Outbox.Publish(new OrderPlaced("scope 2"));
            await request.Db.SaveChangesAsync();
            (await MessagesAsync()).Should().Equal("scope 1", "scope 2");
            await db.SaveChangesAsync();
        });

        (await MessagesAsync()).Should().Equal("scope 1", "scope 2", "outbox", "publish", "send");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(Origin.Factory)]
    [InlineData(Origin.PooledFactory)]
    public async Task What_an_enlisted_context_commits_is_sent_and_what_it_rolls_back_is_not(Origin origin)
    {
        await using var shop = await DeliveringAsync(register: Register(origin));
        await InScopeAsync(shop, async request =>
        {
            for (var number = 1; number <= 3; number++)
            {
                await using var db = await CreateAsync(request, origin);
                using var enlistment = request.Outbox.Enlist(db);
                await using var transaction = await db.Database.BeginTransactionAsync();
                await request.PlaceAsync(db, $"A-{number}");
                (await db.SaveChangesAsync()).Should().Be(1, "the caller counts its own rows");
                if (number != 2)
                    await transaction.CommitAsync();
            }
        });

        (await OrdersAsync()).Should().Equal("A-1", "A-3");
        await SentAloneAsync(shop, "A-1", "A-3");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Enlistments_nest_and_end_in_any_order()
    {
        await using var shop = Shop.Create(Database, register: Register(Origin.Factory));
        await InScopeAsync(shop, async request =>
        {
            await using var outer = await CreateAsync(request, Origin.Factory);
            await using var inner = await CreateAsync(request, Origin.Factory);
            var outerEnlistment = request.Outbox.Enlist(outer);
            await request.Outbox.Publish(new OrderPlaced("outer 1"));
            using (request.Outbox.Enlist(inner))
                await request.Outbox.Publish(new OrderPlaced("inner 1"));
            await request.Outbox.Publish(new OrderPlaced("outer 2"));
            var innerEnlistment = request.Outbox.Enlist(inner);
            outerEnlistment.Dispose();
            await request.Outbox.Publish(new OrderPlaced("inner 2"));
            innerEnlistment.Dispose();
            innerEnlistment.Dispose();
            await request.Outbox.Publish(new OrderPlaced("scope"));

            await request.Db.SaveChangesAsync();
            (await MessagesAsync()).Should().Equal("scope");
            await outer.SaveChangesAsync();
            (await MessagesAsync()).Should().Equal("scope", "outer 1", "outer 2");
            await inner.SaveChangesAsync();
        });

        (await MessagesAsync()).Should().Equal("scope", "outer 1", "outer 2", "inner 1", "inner 2");
    }

    [SkippableFact]
    public async Task Flows_of_one_scope_that_interleave_keep_to_their_own_contexts()
    {
        await using var shop = Shop.Create(Database, register: Register(Origin.Factory));
        await InScopeAsync(shop, async circuit =>
        {
            var firstEnlisted = new TaskCompletionSource();
            var secondEnlisted = new TaskCompletionSource();
            var firstSaved = new TaskCompletionSource();

            async Task FirstAsync()
            {
                await using var db = await CreateAsync(circuit, Origin.Factory);
                using var enlistment = circuit.Outbox.Enlist(db);
                firstEnlisted.SetResult();
                await secondEnlisted.Task;
                await circuit.PlaceAsync(db, "first");
                await db.SaveChangesAsync();
                (await MessagesAsync()).Should().Equal("first");
                firstSaved.SetResult();
            }

            async Task SecondAsync()
            {
                await firstEnlisted.Task;
                await using var db = await CreateAsync(circuit, Origin.Factory);
                using var enlistment = circuit.Outbox.Enlist(db);
                await circuit.PlaceAsync(db, "second");
                secondEnlisted.SetResult();
                await firstSaved.Task;
                await db.SaveChangesAsync();
            }

            await Eventually.CompletesAsync(Task.WhenAll(FirstAsync(), SecondAsync()));
        });

        (await OrdersAsync()).Should().Equal("first", "second");
        (await MessagesAsync()).Should().Equal("first", "second");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task An_enlistment_made_by_an_asynchronous_helper_holds_for_its_caller()
    {
        await using var shop = Shop.Create(Database, register: Register(Origin.Factory));
        await InScopeAsync(shop, async request =>
        {
            async Task<(ShopDb Db, IDisposable Enlistment)> BeginAsync()
            {
                var db = await CreateAsync(request, Origin.Factory);
                return (db, request.Outbox.Enlist(db));
            }

            var (outer, outerEnlistment) = await BeginAsync();
            await request.PlaceAsync(outer, "A-1");
            var (inner, innerEnlistment) = await BeginAsync();
            await request.PlaceAsync(inner, "A-2");
            innerEnlistment.Dispose();
            await request.PlaceAsync(outer, "A-3");
            outerEnlistment.Dispose();
            await outer.SaveChangesAsync();
            (await MessagesAsync()).Should().Equal("A-1", "A-3");
            await inner.SaveChangesAsync();
            await outer.DisposeAsync();
            await inner.DisposeAsync();
        });

        (await MessagesAsync()).Should().Equal("A-1", "A-3", "A-2");
    }

    [SkippableTheory]
    [InlineData(Origin.Factory)]
    [InlineData(Origin.PooledFactory)]
    public async Task Messages_of_contexts_disposed_before_they_were_saved_are_reported_when_the_scope_ends(Origin origin)
    {
        await using var shop = Shop.Create(Database, register: Register(origin));
        await InScopeAsync(shop, async request =>
        {
            await request.Outbox.Publish(new OrderPlaced("never saved"));
            for (var number = 0; number < 2; number++)
            {
                await using var db = await CreateAsync(request, origin);
                using var enlistment = request.Outbox.Enlist(db);
                await request.PlaceAsync(db, $"A-{number}");
            }

            await using var next = await CreateAsync(request, origin);
            (await next.SaveChangesAsync()).Should().Be(0, "a pooled context starts afresh");
        });

        (await MessagesAsync()).Should().BeEmpty();
        shop.Errors.Should().ContainSingle().Which.Should().StartWith("3 captured message(s) were never saved");
    }

    [SkippableFact]
    public async Task A_message_of_a_factory_context_that_nobody_enlisted_is_not_lost_in_silence()
    {
        await using var shop = Shop.Create(Database, register: Register(Origin.Factory));
        await InScopeAsync(shop, async request =>
        {
            await using var db = await CreateAsync(request, Origin.Factory);
            await request.PlaceAsync(db, "A-1");
            await db.SaveChangesAsync();
        });

        (await OrdersAsync()).Should().Equal("A-1");
        shop.Errors.Should().ContainSingle().Which.Should().Contain("never saved");
    }

    [SkippableFact]
    public async Task An_operation_that_commits_once_takes_the_messages_of_an_enlisted_context()
    {
        await using var shop = await DeliveringAsync(register: Register(Origin.Factory));
        await InScopeAsync(shop, async request =>
        {
            await using var db = await CreateAsync(request, Origin.Factory);
            using var enlistment = request.Outbox.Enlist(db);
            await db.CommitOnceAsync(_ => request.PlaceAsync(db, "A-1"), default);
        });

        (await OrdersAsync()).Should().Equal("A-1");
        await SentAloneAsync(shop, "A-1");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_scope_that_lives_for_long_lets_contexts_go(bool commits)
    {
        await using var shop = Shop.Create(Database, register: Register(Origin.Factory));
        await InScopeAsync(shop, async circuit =>
        {
            var click = await ClickAsync(circuit, commits);
            await Eventually.BecomesAsync(
                () =>
                {
                    GC.Collect();
                    return !click.IsAlive;
                },
                "the context of a click that is over is collected");
        });
    }

    [SkippableFact]
    public async Task Contexts_that_cannot_be_enlisted_are_refused_with_the_remedy()
    {
        await using var shop = Shop.Create(Database);
        await InScopeAsync(shop, request =>
        {
            using var audit = new AuditDb(Database.OptionsOf<AuditDb>(Database.ConnectionString));
            request.Outbox.Invoking(outbox => outbox.Enlist(audit)).Should().Throw<OutboxBusException>()
                .WithMessage("AuditDb cannot be enlisted*database of ShopDb only*Remedy: enlist a ShopDb*UseTransaction*");
            using var handmade = Database.CreateShop();
            request.Outbox.Invoking(outbox => outbox.Enlist(handmade)).Should().Throw<OutboxBusException>()
                .WithMessage("ShopDb cannot be enlisted*without the interceptor*IDbContextFactory<ShopDb>*DbContextOptions<ShopDb>*");
            request.Outbox.Invoking(outbox => outbox.Enlist(null!)).Should().Throw<ArgumentNullException>();
            new NoOutbox().Invoking(outbox => outbox.Enlist(handmade)).Should().Throw<OutboxBusException>()
                .WithMessage("*NoOutbox*, which is not the IOutboxContext of OutboxBus*Remedy*container*");
            return Task.CompletedTask;
        });
    }

    [SkippableFact]
    public async Task A_context_whose_model_lost_the_outbox_tables_is_refused_with_the_remedy()
    {
        var services = new ServiceCollection();
        services.AddLogging();
        services.AddDbContext<WholeDb>(Database.Configure);
        services.AddOutboxBus(bus => bus.UseEntityFrameworkCore<WholeDb>(Database.Choose).UseInMemory());
        await using var provider = services.BuildServiceProvider();
        await using var scope = provider.CreateAsyncScope();
        await using var bare = new BareDb(scope.ServiceProvider.GetRequiredService<DbContextOptions<WholeDb>>());

        scope.ServiceProvider.GetRequiredService<IOutboxContext>().Invoking(outbox => outbox.Enlist(bare)).Should().Throw<OutboxBusException>()
            .WithMessage("BareDb cannot be enlisted*no outbox tables*AddOutboxBus(Database)*base.OnModelCreating*");
    }

    [SkippableFact]
    public async Task Inside_a_handler_every_context_is_refused()
    {
        var refusals = new Refusals();
        await using var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<EnlistingHandler>(),
            services => services.AddSingleton(refusals),
            delivers: true,
            register: Register(Origin.Factory));
        await shop.StartAsync();
        await InScopeAsync(shop, request => request.PlaceAndSaveAsync("A-1"));
        await Eventually.BecomesAsync(() => refusals.Count == 2, "the handler has run");
        await shop.StopAsync();

        refusals.Should().OnlyContain(refusal => refusal.Contains("ShopDb cannot be enlisted while a message is handled") && refusal.Contains("Remedy"));
        shop.Errors.Should().BeEmpty();
    }

    private static Action<IServiceCollection, Action<DbContextOptionsBuilder>> Register(Origin origin) => (services, options) =>
    {
        if (origin == Origin.PooledFactory)
            services.AddPooledDbContextFactory<ShopDb>(options, poolSize: 1);
        else if (origin == Origin.Factory)
            services.AddDbContextFactory<ShopDb>(options);
        else
            services.AddDbContext<ShopDb>(options);
    };

    private static async Task<ShopDb> CreateAsync(Request request, Origin origin) => origin == Origin.Options
        ? new ShopDb(request.Services.GetRequiredService<DbContextOptions<ShopDb>>())
        : await request.Services.GetRequiredService<IDbContextFactory<ShopDb>>().CreateDbContextAsync();

    private static async Task<WeakReference> ClickAsync(Request circuit, bool commits)
    {
        await using var db = await CreateAsync(circuit, Origin.Factory);
        using var enlistment = circuit.Outbox.Enlist(db);
        await using var transaction = await db.Database.BeginTransactionAsync();
        await circuit.PlaceAsync(db, "A-1");
        await db.SaveChangesAsync();
        if (commits)
            await transaction.CommitAsync();
        return new WeakReference(db);
    }

    public sealed class Refusals : System.Collections.Concurrent.ConcurrentQueue<string>;

    public sealed class EnlistingHandler(IOutboxContext outbox, IDbContextFactory<ShopDb> factory, Refusals refusals) : IMessageHandler<OrderPlaced>
    {
        public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        {
            await using var db = await factory.CreateDbContextAsync(cancellationToken);
            foreach (var way in (IOutboxContext[])[outbox, context])
            {
                try
                {
                    way.Enlist(db);
                }
                catch (OutboxBusException refusal)
                {
                    refusals.Enqueue(refusal.Message);
                }
            }
        }
    }

    private sealed class AuditDb(DbContextOptions<AuditDb> options) : DbContext(options);

    private class WholeDb(DbContextOptions<WholeDb> options) : DbContext(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.AddOutboxBus(Database);
    }

    private sealed class BareDb(DbContextOptions<WholeDb> options) : WholeDb(options)
    {
        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Order>();
    }

    private sealed class NoOutbox : IOutboxContext
    {
        public Task Publish<T>(T message, PublishOptions? options = null, CancellationToken cancellationToken = default)
            where T : class => Task.CompletedTask;

        public Task Publish(object message, Type messageType, PublishOptions? options = null, CancellationToken cancellationToken = default) => Task.CompletedTask;

        public Task Send<T>(string destination, T message, SendOptions? options = null, CancellationToken cancellationToken = default)
            where T : class => Task.CompletedTask;

        public Task<Guid> SchedulePublish<T>(T message, DateTimeOffset dueAt, PublishOptions? options = null, CancellationToken cancellationToken = default)
            where T : class => Task.FromResult(Guid.Empty);

        public Task<Guid> ScheduleSend<T>(string destination, T message, DateTimeOffset dueAt, SendOptions? options = null, CancellationToken cancellationToken = default)
            where T : class => Task.FromResult(Guid.Empty);

        public Task CancelScheduled(Guid scheduleToken, CancellationToken cancellationToken = default) => Task.CompletedTask;
    }
}

public enum Origin
{
    Factory,
    PooledFactory,
    Options,
}

public sealed class EnlistedContextsOnSqlite(SqliteDatabase database) : EnlistedContextsOn<SqliteDatabase>(database);

public sealed class EnlistedContextsOnPostgreSql(PostgreSqlDatabase database) : EnlistedContextsOn<PostgreSqlDatabase>(database);
