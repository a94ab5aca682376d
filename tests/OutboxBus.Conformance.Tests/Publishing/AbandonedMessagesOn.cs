using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Whatever the application does to its context, a message that was not stored is reported, and one that was is sent.
public abstract class AbandonedMessagesOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task A_message_of_a_context_disposed_before_it_was_saved_is_reported(bool pooled)
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await request.Db.DisposeAsync();
            },
            [],
            pooled: pooled,
            errors: 1);

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task A_message_published_after_its_context_was_disposed_is_reported(bool pooled)
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAndSaveAsync("A-1");
                await request.Db.DisposeAsync();
                await request.Outbox.Publish(new OrderPlaced("too late"));
            },
            ["A-1"],
            pooled: pooled,
            errors: 1);

    [SkippableFact]
    public Task A_message_taken_out_of_the_change_tracker_is_reported()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAndSaveAsync("A-1");
                var taken = new Order { Number = "A-1" };
                request.Db.Add(taken);
                await request.Outbox.Publish(new OrderPlaced("A-2"));
                await request.Db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
                request.Db.ChangeTracker.Entries<Envelope>().Single().State = EntityState.Detached;
                request.Db.Remove(taken);
                (await request.Db.SaveChangesAsync()).Should().Be(0);
            },
            ["A-1"],
            errors: 1);

    // Only what a save has tried is in the change tracker.
    [SkippableFact]
    public async Task A_message_published_before_the_change_tracker_is_cleared_rides_the_next_save()
    {
        await using var shop = Shop.Create(Database);
        await InScopeAsync(shop, async request =>
        {
            await request.PlaceAsync("A-1");
            request.Db.ChangeTracker.Clear();
            await request.Db.SaveChangesAsync();
        });

        (await OrdersAsync()).Should().BeEmpty();
        (await MessagesAsync()).Should().Equal("A-1");
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_pooled_context_given_back_in_the_middle_of_a_transaction_starts_afresh(bool unaccepted)
    {
        await using var shop = await DeliveringAsync(pooled: true);
        ShopDb? first = null;
        await InScopeAsync(shop, async request =>
        {
            first = request.Db;
            await request.Db.Database.BeginTransactionAsync();
            await request.PlaceAsync("A-1");
            await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: !unaccepted);
        });
        await InScopeAsync(shop, async request =>
        {
            request.Db.Database.CurrentTransaction.Should().BeNull();
            await using var transaction = await request.Db.Database.BeginTransactionAsync();
            await request.PlaceAndSaveAsync("A-2");
            await transaction.CommitAsync();
        });

        (await OrdersAsync()).Should().Equal("A-2");
        await SentAloneAsync(shop, "A-2");
        shop.Errors.Should().BeEmpty();
    }
}

public sealed class AbandonedMessagesOnSqlite(SqliteDatabase database) : AbandonedMessagesOn<SqliteDatabase>(database);

public sealed class AbandonedMessagesOnPostgreSql(PostgreSqlDatabase database) : AbandonedMessagesOn<PostgreSqlDatabase>(database)
{
    [SkippableFact]
    public Task A_save_cancelled_while_its_insert_waits_for_a_lock_and_repeated_stores_its_message_once()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await SaveAndCancelAsync(request.Db);
                (await request.Db.SaveChangesAsync()).Should().Be(1);
            },
            ["A-1"]);

    // PostgreSQL has aborted the transaction, and EF Core cannot go back to its savepoint, as that is cancelled too.
    [SkippableFact]
    public Task A_save_cancelled_inside_a_transaction_ends_it()
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-0");
                await request.PlaceAsync("A-1");
                await SaveAndCancelAsync(request.Db);
                await request.Db.Awaiting(aborted => aborted.SaveChangesAsync()).Should().ThrowAsync<PostgresException>();
                await transaction.Awaiting(aborted => aborted.CommitAsync()).Should().ThrowAsync<OutboxBusException>();
            },
            [],
            errors: 1);

    private async Task SaveAndCancelAsync(ShopDb db)
    {
        await using var rival = Database.CreateShop();
        await using var transaction = await rival.Database.BeginTransactionAsync();
        rival.Add(new Order { Number = "A-1" });
        await rival.SaveChangesAsync();
        using var cancellation = new CancellationTokenSource();
        var saving = db.SaveChangesAsync(cancellation.Token);
        await Database.SomebodyIsBlockedAsync();
        await cancellation.CancelAsync();
        await db.Awaiting(_ => saving).Should().ThrowAsync<OperationCanceledException>();
    }
}
