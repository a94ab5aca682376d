using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Consuming;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Consuming;

// A message's effects happen once, whenever its record is inserted.
public abstract class ConsumedOnceOn<TDatabase>(TDatabase database, InboxMode mode) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private protected static readonly InboxKey Key = new(Guid.Parse("5a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69"), "stock/Handler/OrderPlaced");

    [SkippableFact]
    public async Task Rows_messages_and_record_are_committed_together()
    {
        await using var shop = CreateShop();
        IEnumerable<object> tracked = [];

        (await ConsumeAsync(shop, async (db, outbox) =>
        {
            await PlaceAsync(db, outbox, "A-1");
            db.SavedChanges += (_, _) => tracked = [.. db.ChangeTracker.Entries().Select(entry => entry.Entity)];
        })).Should().Be(ConsumeOutcome.Consumed);

        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Records: 1));
        tracked.Should().AllBeOfType<Order>("what OutboxBus saves does not stay with the application");
    }

    [SkippableFact]
    public async Task A_duplicate_changes_nothing()
    {
        await using var shop = CreateShop();
        await ConsumeAsync(shop, (db, outbox) => PlaceAsync(db, outbox, "A-1"));
        var runs = 0;

        var outcome = await ConsumeAsync(shop, (db, outbox) =>
        {
            runs++;
            return PlaceAsync(db, outbox, "A-2");
        });

        outcome.Should().Be(ConsumeOutcome.Duplicate);
        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Records: 1));
        runs.Should().Be(mode == InboxMode.First ? 0 : 1, "only a record inserted last lets a duplicate run the handler");
    }

    [SkippableTheory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public async Task Eight_copies_at_once_have_one_effect_and_no_error(bool handlerSaves, bool ownRowsCollide)
    {
        await using var shop = CreateShop();
        var copy = 0;

        var outcomes = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => ConsumeAsync(shop, async (db, outbox) =>
        {
            var mine = Interlocked.Increment(ref copy);
            await PlaceAsync(db, outbox, ownRowsCollide ? "A-1" : $"A-{mine}");
            if (handlerSaves)
                await db.SaveChangesAsync();
        }))));

        outcomes.Count(outcome => outcome == ConsumeOutcome.Consumed).Should().Be(1);
        var content = await ContentAsync();
        content.Should().Be(new Content(content.Orders, Messages: 1, Records: 1));
        content.Orders.Should().NotContain(",").And.NotBeEmpty();
    }

    [SkippableFact]
    public async Task A_unique_violation_of_the_handler_itself_is_an_error_and_leaves_no_record()
    {
        await using var shop = CreateShop();
        await shop.InScopeAsync((db, _) =>
        {
            db.Add(new Order { Number = "A-1" });
            return db.SaveChangesAsync();
        });

        await FluentActions.Awaiting(() => ConsumeAsync(shop, (db, outbox) => PlaceAsync(db, outbox, "A-1"))).Should().ThrowAsync<DbUpdateException>();

        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 0, Records: 0));
        (await ConsumeAsync(shop, (db, outbox) => PlaceAsync(db, outbox, "A-2"))).Should().Be(ConsumeOutcome.Consumed);
    }

    [SkippableFact]
    public async Task A_handler_may_save_as_often_as_it_likes()
    {
        await using var shop = CreateShop();

        async Task HandleAsync(ShopDb db, IOutboxContext outbox)
        {
            await PlaceAsync(db, outbox, "A-1");
            await db.SaveChangesAsync();
            await PlaceAsync(db, outbox, "A-2");
            await db.SaveChangesAsync();
        }

        (await ConsumeAsync(shop, HandleAsync)).Should().Be(ConsumeOutcome.Consumed);
        // Its second run collides with its first.
        (await ConsumeAsync(shop, HandleAsync)).Should().Be(ConsumeOutcome.Duplicate);

        (await ContentAsync()).Should().Be(new Content("A-1,A-2", Messages: 2, Records: 1));
    }

    [SkippableFact]
    public async Task A_flush_of_several_saves_writes_one_record()
    {
        var afterSave = new AfterFirstSave();
        await using var shop = CreateShop(services: services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(afterSave)));

        (await ConsumeAsync(shop, async (db, outbox) =>
        {
            await PlaceAsync(db, outbox, "A-1");
            afterSave.Do = () => outbox.Publish(new OrderPlaced("A-1"));
        })).Should().Be(ConsumeOutcome.Consumed);

        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 2, Records: 1));
    }

    [SkippableFact]
    public async Task A_message_that_changes_nothing_is_recorded_too()
    {
        await using var shop = CreateShop();

        (await ConsumeAsync(shop, (_, _) => Task.CompletedTask)).Should().Be(ConsumeOutcome.Consumed);

        (await ContentAsync()).Should().Be(new Content("", Messages: 0, Records: 1));
    }

    [SkippableFact]
    public async Task A_message_forgotten_is_consumed_again()
    {
        await using var shop = CreateShop();
        await ConsumeAsync(shop, (db, outbox) => PlaceAsync(db, outbox, "A-1"));

        (await shop.Services.GetRequiredService<IInbox>().ForgetAsync(Key.MessageId, Key.Consumer)).Should().Be(1);

        (await ConsumeAsync(shop, (db, outbox) => PlaceAsync(db, outbox, "A-2"))).Should().Be(ConsumeOutcome.Consumed);
        (await ContentAsync()).Should().Be(new Content("A-1,A-2", Messages: 2, Records: 1));
    }

    [SkippableFact]
    public async Task A_record_that_is_not_saved_is_an_error()
    {
        await using var shop = CreateShop(services: services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(new SuppressSaves())));
        var consume = () => ConsumeAsync(shop, (_, _) => Task.CompletedTask);

        if (mode == InboxMode.Last)
            (await consume.Should().ThrowAsync<OutboxBusException>()).WithMessage("*SaveChanges is suppressed*");
        else
            (await consume()).Should().Be(ConsumeOutcome.Consumed);

        (await ContentAsync()).Records.Should().Be(mode == InboxMode.Last ? 0 : 1);
    }

    private protected Shop CreateShop(string? connectionString = null, Action<IServiceCollection>? services = null)
        => Shop.Create(Database, bus => bus.Inbox(inbox => inbox.Mode = mode), services, connectionString: connectionString);

    // One delivery of the message, as the bus's filter makes it.
    private protected static async Task<ConsumeOutcome> ConsumeAsync(Shop shop, Func<ShopDb, IOutboxContext, Task> handle)
    {
        await using var scope = shop.Scope();
        var services = scope.ServiceProvider;
        var unit = services.GetRequiredService<IUnitOfWorkSource>().Current;
        var gate = services.GetRequiredService<InboxGate>();
        var outcome = default(ConsumeOutcome?);
        await unit.WithoutRetriesAsync(async () => outcome = await gate.ConsumeOnceAsync(
            unit, [Key], _ => handle(services.GetRequiredService<ShopDb>(), services.GetRequiredService<IOutboxContext>()), default));
        return outcome!.Value;
    }

    [SkippableFact]
    public async Task What_a_filter_outside_the_retry_has_changed_is_not_lost_in_silence()
    {
        await using var shop = CreateShop();
        await using var scope = shop.Scope();
        scope.ServiceProvider.GetRequiredService<ShopDb>().Add(new Order { Number = "of the filter" });
        await scope.ServiceProvider.GetRequiredService<IOutboxContext>().Publish(new OrderPlaced("of the filter"));
        var unit = scope.ServiceProvider.GetRequiredService<IUnitOfWorkSource>().Current;
        var gate = scope.ServiceProvider.GetRequiredService<InboxGate>();

        Task AttemptAsync(Func<Task> handle) => unit.WithoutRetriesAsync(() => gate.ConsumeOnceAsync(unit, [Key], _ => handle(), default));

        await FluentActions.Awaiting(() => AttemptAsync(() => throw new InvalidOperationException("The first attempt fails."))).Should().ThrowAsync<InvalidOperationException>();
        await FluentActions.Awaiting(() => AttemptAsync(() => Task.CompletedTask)).Should().ThrowAsync<OutboxBusException>().WithMessage("*inside the retry*");

        (await ContentAsync()).Should().Be(new Content("", Messages: 0, Records: 0));
    }

    private protected static Task PlaceAsync(ShopDb db, IOutboxContext outbox, string number)
    {
        db.Add(new Order { Number = number });
        return outbox.Publish(new OrderPlaced(number));
    }

    private protected async Task<Content> ContentAsync()
    {
        await using var db = Database.CreateShop();
        return new Content(
            string.Join(',', await db.Orders.Select(order => order.Number).Order().ToListAsync()),
            await db.Set<Envelope>().CountAsync(),
            await db.Set<InboxMessage>().CountAsync());
    }

    private protected sealed record Content(string Orders, int Messages, int Records);

    private sealed class AfterFirstSave : SaveChangesInterceptor
    {
        public Func<Task>? Do { get; set; }

        public override async ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
        {
            if (Do is { } once)
            {
                Do = null;
                await once();
            }

            return result;
        }
    }

    private sealed class SuppressSaves : SaveChangesInterceptor
    {
        public override ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
            => new(InterceptionResult<int>.SuppressWithResult(0));
    }
}

public abstract class ConsumedOnceOnPostgreSql(PostgreSqlDatabase database, InboxMode mode) : ConsumedOnceOn<PostgreSqlDatabase>(database, mode)
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_transaction_aborted_unnoticed_does_not_count_as_consumed(bool thenChangesRows)
    {
        await using var shop = CreateShop();

        await FluentActions.Awaiting(() => ConsumeAsync(shop, async (db, outbox) =>
        {
            await FluentActions.Awaiting(() => db.Database.ExecuteSqlRawAsync("select 1 / 0")).Should().ThrowAsync<Exception>("the handler goes on as if nothing had happened");
            if (thenChangesRows)
                await PlaceAsync(db, outbox, "A-1");
        })).Should().ThrowAsync<Exception>();

        (await ContentAsync()).Should().Be(new Content("", Messages: 0, Records: 0));
    }

    [SkippableFact]
    public async Task A_commit_whose_answer_is_lost_counts_as_consumed()
    {
        await using var link = new PostgresLink(Database.ConnectionString);
        await using var shop = CreateShop(link.ConnectionString);

        (await ConsumeAsync(shop, async (db, outbox) =>
        {
            await PlaceAsync(db, outbox, "A-1");
            link.LoseNextCommit(Loss.Answer);
        })).Should().Be(ConsumeOutcome.Consumed);

        link.Proxy.Lost.Should().Be(1);
        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Records: 1));
    }

    [SkippableFact]
    public async Task A_commit_that_never_arrives_is_an_error_and_leaves_nothing()
    {
        await using var link = new PostgresLink(Database.ConnectionString);
        await using var shop = CreateShop(link.ConnectionString);
        async Task HandleAsync(ShopDb db, IOutboxContext outbox)
        {
            await PlaceAsync(db, outbox, "A-1");
            if (link.Proxy.Lost == 0)
                link.LoseNextCommit(Loss.Request);
        }

        await FluentActions.Awaiting(() => ConsumeAsync(shop, HandleAsync)).Should().ThrowAsync<Exception>();

        (await ContentAsync()).Should().Be(new Content("", Messages: 0, Records: 0));
        (await ConsumeAsync(shop, HandleAsync)).Should().Be(ConsumeOutcome.Consumed);
        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Records: 1));
    }
}

public sealed class ConsumedOnceFirstOnPostgreSql(PostgreSqlDatabase database) : ConsumedOnceOnPostgreSql(database, InboxMode.First);

public sealed class ConsumedOnceLastOnPostgreSql(PostgreSqlDatabase database) : ConsumedOnceOnPostgreSql(database, InboxMode.Last);

public sealed class ConsumedOnceFirstOnSqlite(SqliteDatabase database) : ConsumedOnceOn<SqliteDatabase>(database, InboxMode.First);

public sealed class ConsumedOnceLastOnSqlite(SqliteDatabase database) : ConsumedOnceOn<SqliteDatabase>(database, InboxMode.Last);
