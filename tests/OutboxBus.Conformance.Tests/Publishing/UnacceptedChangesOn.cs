using System.Data.Common;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// SaveChanges(acceptAllChangesOnSuccess: false) means: I may have to save this again. Messages are saved again exactly if the orders are.
public abstract class UnacceptedChangesOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(Ending.Rollback)]
    [InlineData(Ending.Dispose)]
    public Task Saved_again_after_a_transaction_that_came_to_nothing_and_an_empty_one(Ending ending)
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await SaveUnacceptedAsync(request.Db, ending);
                await using (var empty = await request.Db.Database.BeginTransactionAsync())
                    await empty.CommitAsync();
                await request.Db.SaveChangesAsync();
            },
            ["A-1"]);

    [SkippableTheory]
    [InlineData(Ending.Rollback)]
    [InlineData(Ending.Dispose)]
    public Task Not_saved_again_by_a_caller_who_clears_them_and_starts_over(Ending ending)
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await SaveUnacceptedAsync(request.Db, ending);
                request.Db.ChangeTracker.Clear();
                await request.PlaceAndSaveAsync("A-1");
            },
            ["A-1"]);

    [SkippableFact]
    public Task Nothing_is_reported_of_a_transaction_that_the_caller_rolled_back()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await SaveUnacceptedAsync(request.Db, Ending.Rollback);
            },
            []);

    [SkippableTheory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public Task Accepted_within_a_transaction_or_without_one_they_are_not_saved_again(bool inTransaction, bool synchronous)
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = inTransaction ? await request.Db.Database.BeginTransactionAsync() : null;
                await request.PlaceAsync("A-1");
                if (synchronous)
                    request.Db.SaveChanges(acceptAllChangesOnSuccess: false);
                else
                    await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                request.Db.ChangeTracker.AcceptAllChanges();
                if (synchronous)
                    request.Db.SaveChanges().Should().Be(0);
                else
                    (await request.Db.SaveChangesAsync()).Should().Be(0);
                if (transaction is not null)
                    await transaction.CommitAsync();
            },
            ["A-1"]);

    [SkippableFact]
    public Task A_message_seen_to_be_committed_is_not_saved_again_even_if_it_is_never_accepted()
        => StoresAndSendsAsync(
            async request =>
            {
                request.Db.Add(new Order { Number = "A-1" });
                await request.Db.SaveChangesAsync();
                await request.Outbox.Publish(new OrderPlaced("A-1"));
                await using (var transaction = await request.Db.Database.BeginTransactionAsync())
                {
                    await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                    await transaction.CommitAsync();
                }

                await request.Db.SaveChangesAsync();
            },
            ["A-1"]);

    [SkippableFact]
    public Task Accepted_after_a_commit_that_happened_but_reported_an_error_they_are_not_saved_again()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await using (var transaction = await request.Db.Database.BeginTransactionAsync())
                {
                    await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                    await transaction.Awaiting(unlucky => unlucky.CommitAsync()).Should().ThrowAsync<TimeoutException>();
                }

                // The caller has found out that it happened.
                (await OrdersAsync()).Should().Equal("A-1");
                request.Db.ChangeTracker.AcceptAllChanges();
                await request.PlaceAndSaveAsync("A-2");
            },
            ["A-1", "A-2"],
            context: options => options.AddInterceptors(new CommitWithoutAnswer()));

    [SkippableFact]
    public async Task Accepted_after_such_a_commit_they_are_not_saved_again_though_their_message_was_sent_and_deleted_meanwhile()
    {
        await using var shop = await DeliveringAsync(options => options.AddInterceptors(new CommitWithoutAnswer()));
        await InScopeAsync(shop, async request =>
        {
            await request.PlaceAsync("A-1");
            await using (var transaction = await request.Db.Database.BeginTransactionAsync())
            {
                await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                await transaction.Awaiting(unlucky => unlucky.CommitAsync()).Should().ThrowAsync<TimeoutException>();
            }

            await EndLeasesAsync();
            await Eventually.BecomesAsync(async () => (await MessagesAsync()).Count == 0, "the message was claimed, sent and deleted");
            request.Db.ChangeTracker.AcceptAllChanges();
            await request.Db.SaveChangesAsync();
        });

        await SentAloneAsync(shop, "A-1");
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Saved_again_after_a_raw_transaction_that_was_rolled_back(bool synchronous)
        => StoresAndSendsAsync(
            async request =>
            {
                await request.Db.Database.OpenConnectionAsync();
                await request.Db.Database.ExecuteSqlRawAsync("begin");
                await request.Outbox.Publish(new OrderPlaced("A-1"));
                if (synchronous)
                    request.Db.SaveChanges(acceptAllChangesOnSuccess: false);
                else
                    await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                await request.Db.Database.ExecuteSqlRawAsync("rollback");
                request.Db.Add(new Order { Number = "A-1" });
                if (synchronous)
                    request.Db.SaveChanges().Should().Be(1);
                else
                    (await request.Db.SaveChangesAsync()).Should().Be(1);
            },
            ["A-1"]);

    private static async Task SaveUnacceptedAsync(ShopDb db, Ending ending)
    {
        await using var transaction = await db.Database.BeginTransactionAsync();
        await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
        if (ending == Ending.Rollback)
            await transaction.RollbackAsync();
    }

    // The first explicit commit of a context happens, and its answer is lost.
    private sealed class CommitWithoutAnswer : DbTransactionInterceptor
    {
        private bool _done;

        public override Task TransactionCommittedAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
        {
            if (_done)
                return Task.CompletedTask;
            _done = true;
            throw new TimeoutException("no answer");
        }
    }
}

public sealed class UnacceptedChangesOnSqlite(SqliteDatabase database) : UnacceptedChangesOn<SqliteDatabase>(database);

public sealed class UnacceptedChangesOnPostgreSql(PostgreSqlDatabase database) : UnacceptedChangesOn<PostgreSqlDatabase>(database);
