using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Whoever begins and ends the transaction: its end decides, and what it decides is sent at once.
public abstract class ExplicitTransactionsOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(Ending.Commit, true)]
    [InlineData(Ending.Commit, false)]
    [InlineData(Ending.Rollback, true)]
    [InlineData(Ending.Rollback, false)]
    [InlineData(Ending.Dispose, true)]
    [InlineData(Ending.Dispose, false)]
    public Task The_end_of_a_transaction_of_EF_Core_decides(Ending ending, bool synchronous)
        => StoresAndSendsAsync(
            async request =>
            {
                if (synchronous)
                {
                    using var transaction = request.Db.Database.BeginTransaction();
                    await request.PlaceAsync("A-1");
                    request.Db.SaveChanges();
                    if (ending == Ending.Commit)
                        transaction.Commit();
                    else if (ending == Ending.Rollback)
                        transaction.Rollback();
                }
                else
                {
                    await using var transaction = await request.Db.Database.BeginTransactionAsync();
                    await request.PlaceAndSaveAsync("A-1");
                    if (ending == Ending.Commit)
                        await request.Db.Database.CommitTransactionAsync();
                    else if (ending == Ending.Rollback)
                        await request.Db.Database.RollbackTransactionAsync();
                }
            },
            ending == Ending.Commit ? ["A-1"] : []);

    [SkippableTheory]
    [InlineData(Ending.Commit)]
    [InlineData(Ending.Rollback)]
    [InlineData(Ending.Dispose)]
    public Task The_end_of_a_transaction_of_ADO_NET_decides(Ending ending)
        => StoresAndSendsAsync(
            async request =>
            {
                await request.Db.Database.OpenConnectionAsync();
                await using var transaction = await request.Db.Database.GetDbConnection().BeginTransactionAsync();
                await request.Db.Database.UseTransactionAsync(transaction);
                await request.PlaceAndSaveAsync("A-1");
                if (ending == Ending.Commit)
                    await transaction.CommitAsync();
                else if (ending == Ending.Rollback)
                    await transaction.RollbackAsync();
            },
            ending == Ending.Commit ? ["A-1"] : []);

    [SkippableFact]
    public async Task A_transaction_of_ADO_NET_committed_in_a_long_scope_sends_with_the_next_save()
    {
        await using var shop = await DeliveringAsync();
        await InScopeAsync(shop, async circuit =>
        {
            await circuit.Db.Database.OpenConnectionAsync();
            await using (var transaction = await circuit.Db.Database.GetDbConnection().BeginTransactionAsync())
            {
                await circuit.Db.Database.UseTransactionAsync(transaction);
                await circuit.PlaceAndSaveAsync("A-1");
                await transaction.CommitAsync();
            }

            await circuit.Db.Database.UseTransactionAsync(null);
            await circuit.PlaceAndSaveAsync("A-2");
            await ArriveAsync(shop, "A-1", "A-2");
        });

        await SentAloneAsync(shop, "A-1", "A-2");
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Contexts_that_share_a_transaction_share_its_end(bool commit)
    {
        string[] expected = commit ? ["A-1", "A-2"] : [];
        await using var shop = await DeliveringAsync();
        await using (var connection = await Database.OpenAsync())
        {
            await InScopeAsync(shop, async first => await InScopeAsync(shop, async second =>
            {
                first.Db.Database.SetDbConnection(connection);
                second.Db.Database.SetDbConnection(connection);
                await using var transaction = await first.Db.Database.BeginTransactionAsync();
                await second.Db.Database.UseTransactionAsync(transaction.GetDbTransaction());
                await first.PlaceAndSaveAsync("A-1");
                await second.PlaceAndSaveAsync("A-2");
                if (commit)
                    await transaction.CommitAsync();
            }));
        }

        (await OrdersAsync()).Should().Equal(expected);
        await SentAloneAsync(shop, expected);
    }

    [SkippableFact]
    public Task A_message_published_before_the_transaction_began_is_saved_within_it()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.Db.SaveChangesAsync();
                await transaction.RollbackAsync();
            },
            []);

    [SkippableFact]
    public Task A_message_published_after_the_last_save_of_a_transaction_is_not_stored_and_reported()
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                await request.Outbox.Publish(new OrderPlaced("too late"));
                await transaction.CommitAsync();
            },
            ["A-1"],
            errors: 1);

    [SkippableFact]
    public async Task A_commit_does_not_speak_for_an_earlier_transaction()
    {
        await using var shop = Shop.Create(Database, delivers: true);
        await InScopeAsync(shop, async request =>
        {
            await using (await request.Db.Database.BeginTransactionAsync())
                await request.PlaceAndSaveAsync("A-1");
            await using (var second = await request.Db.Database.BeginTransactionAsync())
                await second.CommitAsync();
            shop.HandOff.IsEmpty.Should().BeTrue();
        });

        // At the end of the scope delivery is asked to look, as a transaction of others may have been committed unseen.
        shop.HandOff.TryTake(out var handedOff).Should().BeTrue();
        handedOff.Certainty.Should().Be(CommitCertainty.Unverified);
    }

    // Unknown to EF Core, which begins no transaction for a single row and believes that it committed.
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_raw_transaction_decides_and_its_messages_are_sent_when_their_lease_ends(bool commit)
    {
        await using var shop = await DeliveringAsync();
        await InScopeAsync(shop, async request =>
        {
            await request.Db.Database.OpenConnectionAsync();
            await request.Db.Database.ExecuteSqlRawAsync("begin");
            request.Db.Add(new Order { Number = "A-1" });
            await request.Db.SaveChangesAsync();
            await request.Outbox.Publish(new OrderPlaced("A-1"));
            await request.Db.SaveChangesAsync();
            await request.Db.Database.ExecuteSqlRawAsync(commit ? "commit" : "rollback");
        });

        string[] expected = commit ? ["A-1"] : [];
        (await OrdersAsync()).Should().Equal(expected);
        await EndLeasesAsync();
        await SentAloneAsync(shop, expected);
    }
}

public sealed class ExplicitTransactionsOnSqlite(SqliteDatabase database) : ExplicitTransactionsOn<SqliteDatabase>(database);

public sealed class ExplicitTransactionsOnPostgreSql(PostgreSqlDatabase database) : ExplicitTransactionsOn<PostgreSqlDatabase>(database)
{
    // SQLite's driver refuses commands that do not name the transaction.
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_transaction_of_ADO_NET_that_EF_Core_was_not_told_of_decides(bool commit)
    {
        await using var shop = await DeliveringAsync();
        await InScopeAsync(shop, async request =>
        {
            await request.Db.Database.OpenConnectionAsync();
            await using var transaction = await request.Db.Database.GetDbConnection().BeginTransactionAsync();
            request.Db.Add(new Order { Number = "A-1" });
            await request.Db.SaveChangesAsync();
            await request.Outbox.Publish(new OrderPlaced("A-1"));
            await request.Db.SaveChangesAsync();
            if (commit)
                await transaction.CommitAsync();
        });

        string[] expected = commit ? ["A-1"] : [];
        (await OrdersAsync()).Should().Equal(expected);
        await EndLeasesAsync();
        await SentAloneAsync(shop, expected);
    }
}
