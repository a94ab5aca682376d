using System.Transactions;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Delivery is told how certain a commit is, and never sends what has not been committed.
public abstract class HandOffOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_on_a_connection_that_only_EF_opened_is_proven(bool withOrder)
    {
        await using var shop = Shop.Create(Database, delivers: true);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            if (withOrder)
                db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        });

        Take(shop).Certainty.Should().Be(CommitCertainty.Proven);
    }

    [SkippableFact]
    public async Task A_save_on_a_connection_the_application_opened_is_unverified()
    {
        await using var shop = Shop.Create(Database, delivers: true);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await db.Database.OpenConnectionAsync();
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        });

        Take(shop).Certainty.Should().Be(CommitCertainty.Unverified);
    }

    [SkippableFact]
    public async Task An_explicit_transaction_hands_off_after_its_commit_and_unverified()
    {
        await using var shop = Shop.Create(Database, delivers: true);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
            shop.HandOff.IsEmpty.Should().BeTrue();
            await transaction.CommitAsync();
        });

        Take(shop).Certainty.Should().Be(CommitCertainty.Unverified);
    }

    [SkippableFact]
    public async Task A_transaction_rolled_back_hands_nothing_off()
    {
        await using var shop = Shop.Create(Database, delivers: true);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using (var transaction = await db.Database.BeginTransactionAsync())
            {
                await outbox.Publish(new OrderPlaced("A-1"));
                await db.SaveChangesAsync();
                await transaction.RollbackAsync();
            }

            await db.SaveChangesAsync();
        });

        shop.HandOff.IsEmpty.Should().BeTrue();
    }

    [SkippableFact]
    public async Task What_is_handed_off_is_what_is_stored()
    {
        await using var shop = Shop.Create(Database, delivers: true);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        });

        await using var context = Database.CreateShop();
        Take(shop).Envelopes.Single().Envelope.Should().BeEquivalentTo(await context.Set<Envelope>().SingleAsync());
    }

    [SkippableFact]
    public async Task The_lease_of_several_saves_in_one_transaction_counts_from_the_first()
    {
        var clock = new FakeTimeProvider();
        await using var shop = Shop.Create(Database, services: services => services.AddSingleton<TimeProvider>(clock), delivers: true);
        var begun = clock.GetTimestamp();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(new OrderPlaced("1"));
            await db.SaveChangesAsync();
            clock.Advance(TimeSpan.FromSeconds(20));
            await outbox.Publish(new OrderPlaced("2"));
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
        });

        // Two column defaults read the clock one after the other: hence the tolerance.
        var leases = Take(shop).Envelopes.Select(leased => clock.GetElapsedTime(begun, leased.LeaseEnds));
        leases.Should().HaveCount(2).And.OnlyContain(lease => lease < TimeSpan.FromSeconds(35));
    }

    [SkippableFact]
    public async Task A_row_saved_inside_a_raw_transaction_that_is_rolled_back_is_never_sent()
    {
        await using var shop = Shop.Create(Database, bus => bus.AddHandler<Arrivals.Handler>(), services => services.AddSingleton<Arrivals>(), delivers: true);
        await shop.StartAsync();
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await db.Database.OpenConnectionAsync();
            // Unknown to EF Core, which begins no transaction for one row and believes it committed.
            await db.Database.ExecuteSqlRawAsync("begin");
            await outbox.Publish(new OrderPlaced("phantom"));
            await db.SaveChangesAsync();
            await db.Database.ExecuteSqlRawAsync("rollback");
        });

        await ArrivesAloneAsync(shop);
    }

    [SkippableFact]
    public async Task A_row_rolled_back_to_a_savepoint_is_never_sent_though_its_transaction_commits()
    {
        await using var shop = Shop.Create(Database, bus => bus.AddHandler<Arrivals.Handler>(), services => services.AddSingleton<Arrivals>(), delivers: true);
        await shop.StartAsync();
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await transaction.CreateSavepointAsync("before");
            await outbox.Publish(new OrderPlaced("phantom"));
            await db.SaveChangesAsync();
            await transaction.RollbackToSavepointAsync("before");
            await transaction.CommitAsync();
        });

        await ArrivesAloneAsync(shop);
    }

    [SkippableFact]
    public async Task A_committed_message_arrives_once_and_its_row_goes()
    {
        await using var shop = Shop.Create(Database, bus => bus.AddHandler<Arrivals.Handler>(), services => services.AddSingleton<Arrivals>(), delivers: true);
        await shop.StartAsync();
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(new OrderPlaced("explicit"));
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
        });

        await ArrivesAloneAsync(shop, "explicit");
        await using var context = Database.CreateShop();
        (await context.Set<Envelope>().CountAsync()).Should().Be(0);
    }

    // A last message arrives, delivery ends in order with all it was handed, and no other message was sent or consumed.
    private protected static async Task ArrivesAloneAsync(Shop shop, params string[] alsoExpected)
    {
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new OrderPlaced("last"));
            await db.SaveChangesAsync();
        });
        var arrivals = shop.Services.GetRequiredService<Arrivals>();
        string[] expected = [.. alsoExpected, "last"];
        await Eventually.BecomesAsync(() => Task.FromResult(expected.All(arrivals.Contains)), "every message expected has arrived");
        await shop.StopAsync();

        shop.Sent.Should().HaveCount(expected.Length);
        arrivals.Numbers.Should().BeEquivalentTo(expected);
    }

    private static HandedOff Take(Shop shop)
    {
        shop.HandOff.TryTake(out var handedOff).Should().BeTrue("something was handed off");
        shop.HandOff.IsEmpty.Should().BeTrue("it was handed off once");
        return handedOff;
    }
}

public sealed class HandOffOnSqlite(SqliteDatabase database) : HandOffOn<SqliteDatabase>(database);

public sealed class HandOffOnPostgreSql(PostgreSqlDatabase database) : HandOffOn<PostgreSqlDatabase>(database)
{
    // Not on SQLite, where delivery's claim, a write, waits for the open transaction.
    [SkippableFact]
    public async Task A_row_still_inside_a_raw_transaction_is_not_sent_before_its_commit()
    {
        await using var shop = Shop.Create(Database, delivers: true);
        await shop.StartAsync();
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await db.Database.OpenConnectionAsync();
            await db.Database.ExecuteSqlRawAsync("begin");
            await outbox.Publish(new OrderPlaced("open"));
            await db.SaveChangesAsync();
            await Eventually.BecomesAsync(() => Task.FromResult(shop.HandOff.IsEmpty), "delivery has taken and verified the row");
            await shop.StopAsync();
            shop.Sent.Should().BeEmpty();
            await db.Database.ExecuteSqlRawAsync("commit");
        });

        await using var context = Database.CreateShop();
        (await context.Set<Envelope>().CountAsync()).Should().Be(1, "its lease runs out and somebody claims it");
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_TransactionScope_decides(bool complete)
    {
        await using var shop = Shop.Create(Database, bus => bus.AddHandler<Arrivals.Handler>(), services => services.AddSingleton<Arrivals>(), delivers: true);
        await shop.StartAsync();
        await shop.InScopeAsync(async (db, outbox) =>
        {
            using var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled);
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("in scope"));
            await db.SaveChangesAsync();
            if (complete)
                scope.Complete();
        });

        await ArrivesAloneAsync(shop, complete ? ["in scope"] : []);
    }

    [SkippableTheory]
    [InlineData(true, 1)]
    [InlineData(false, 0)]
    public async Task An_enlisted_transaction_decides(bool commit, int stored)
    {
        await using var shop = Shop.Create(Database, delivers: true);
        using var transaction = new CommittableTransaction();
        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.AutoTransactionBehavior = AutoTransactionBehavior.Never;
            await db.Database.OpenConnectionAsync();
            db.Database.EnlistTransaction(transaction);
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
            shop.HandOff.IsEmpty.Should().BeTrue("the transaction has not ended");
            if (commit)
                transaction.Commit();
            else
                transaction.Rollback();
        });

        await using var context = Database.CreateShop();
        (await context.Set<Envelope>().CountAsync()).Should().Be(stored);
        shop.HandOff.TryTake(out var handedOff).Should().BeTrue();
        handedOff.Certainty.Should().Be(CommitCertainty.Unverified);
    }
}
