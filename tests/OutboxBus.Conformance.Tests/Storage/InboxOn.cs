using System.Data.Common;
using FluentAssertions;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// The statements about consumed messages do what the dialect's contract says.
public abstract class InboxOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private protected static readonly InboxKey Key = new(Guid.Parse("5a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69"), "stock:OrderPlaced");

    private protected OutboxStore Store => Database.CreateStore();

    [SkippableFact]
    public async Task The_first_record_affects_one_row_and_the_second_none()
    {
        await using var connection = await Database.OpenAsync();

        (await RecordAsync(connection, Key)).Should().Be(1);
        (await RecordAsync(connection, Key)).Should().Be(0);
    }

    [SkippableFact]
    public async Task The_same_message_is_new_to_another_consumer_and_in_another_generation()
    {
        await using var connection = await Database.OpenAsync();
        await RecordAsync(connection, Key);

        (await RecordAsync(connection, Key with { Consumer = "stock:other" })).Should().Be(1);
        (await RecordAsync(connection, Key with { Generation = 1 })).Should().Be(1);
        (await RecordAsync(connection, Key with { MessageId = Guid.NewGuid() })).Should().Be(1);
    }

    [SkippableFact]
    public async Task A_record_is_found_by_its_whole_key()
    {
        await using (var connection = await Database.OpenAsync())
            await RecordAsync(connection, Key);

        (await Store.IsConsumedAsync(Key, default)).Should().BeTrue();
        (await Store.IsConsumedAsync(Key with { Consumer = "stock:other" }, default)).Should().BeFalse();
        (await Store.IsConsumedAsync(Key with { Generation = 1 }, default)).Should().BeFalse();
        (await Store.IsConsumedAsync(Key with { MessageId = Guid.NewGuid() }, default)).Should().BeFalse();
    }

    [SkippableFact]
    public async Task Asking_whether_it_happened_finds_the_record_by_its_whole_key_and_leaves_none()
    {
        await using (var connection = await Database.OpenAsync())
            await RecordAsync(connection, Key);

        (await Store.HasHappenedAsync(Key, waitSeconds: 30, default)).Should().BeTrue();
        (await Store.HasHappenedAsync(Key with { Generation = 1 }, waitSeconds: 30, default)).Should().BeFalse();
        (await CountAsync()).Should().Be(1);
    }

    [SkippableFact]
    public async Task A_message_forgotten_is_new_again_in_every_generation_to_one_consumer_or_to_all()
    {
        var (other, otherMessage) = (Key with { Consumer = "stock:other" }, Key with { MessageId = Guid.NewGuid() });
        await using (var connection = await Database.OpenAsync())
        {
            foreach (var key in new[] { Key, Key with { Generation = 1 }, other, otherMessage })
                await RecordAsync(connection, key);
        }

        await using var shop = Shop.Create(Database);
        var inbox = shop.Services.GetRequiredService<IInbox>();

        (await inbox.ForgetAsync(Key.MessageId, Key.Consumer)).Should().Be(2);
        (await inbox.IsConsumedAsync(Key.MessageId, Key.Consumer)).Should().BeFalse();
        (await inbox.IsConsumedAsync(other.MessageId, other.Consumer)).Should().BeTrue();
        (await inbox.ForgetAsync(Key.MessageId)).Should().Be(1);
        (await inbox.ForgetAsync(Key.MessageId)).Should().Be(0);
        (await inbox.IsConsumedAsync(otherMessage.MessageId, otherMessage.Consumer)).Should().BeTrue();
    }

    [SkippableFact]
    public async Task A_record_is_readable_through_the_model_and_bears_the_time_of_the_database()
    {
        var before = await Database.NowAsync();
        await using (var connection = await Database.OpenAsync())
            await RecordAsync(connection, Key with { Generation = 2 });

        var after = await Database.NowAsync();
        await using var context = Database.CreateShop();
        var record = await context.Set<InboxMessage>().SingleAsync();
        (record.MessageId, record.Consumer, record.Generation).Should().Be((Key.MessageId, Key.Consumer, 2));
        record.ConsumedAt.Should().BeOnOrAfter(before).And.BeOnOrBefore(after);
    }

    [SkippableFact]
    public async Task A_record_rolled_back_leaves_no_trace()
    {
        await using (var connection = await Database.OpenAsync())
        await using (var transaction = await connection.BeginTransactionAsync())
            await RecordAsync(connection, Key, transaction);

        (await Store.IsConsumedAsync(Key, default)).Should().BeFalse();
    }

    [SkippableFact]
    public async Task Purge_deletes_what_is_past_retention_and_at_most_one_batch()
    {
        var now = await Database.NowAsync();
        await InsertAsync(now.AddDays(-8), now.AddDays(-9), now.AddDays(-10), now.AddDays(-6), now);

        (await Store.PurgeInboxAsync(TimeSpan.FromDays(7), 2, default)).Should().Be(2);
        (await CountAsync()).Should().Be(3);
        (await Store.PurgeInboxAsync(TimeSpan.FromDays(7), 2, default)).Should().Be(1);
        (await Store.PurgeInboxAsync(TimeSpan.FromDays(7), 2, default)).Should().Be(0);
        (await CountAsync()).Should().Be(2);
    }

    [SkippableFact]
    public async Task A_batch_records_what_was_not_consumed_and_tells_which()
    {
        await using var connection = await Database.OpenAsync();
        InboxKey[] keys = [.. Enumerable.Range(0, 3).Select(generation => new InboxKey(Guid.NewGuid(), "stock", generation))];
        await RecordAsync(connection, keys[1]);
        // The same message for another consumer, and in another generation, is another record.
        await RecordAsync(connection, keys[0] with { Consumer = "billing" });
        await RecordAsync(connection, keys[2] with { Generation = 7 });

        (await RecordBatchAsync(connection, keys)).Should().BeEquivalentTo([keys[0], keys[2]]);
        (await RecordBatchAsync(connection, keys)).Should().BeEmpty();
        (await CountAsync()).Should().Be(5);
    }

    [SkippableFact]
    public async Task A_batch_that_holds_a_message_twice_records_it_once()
    {
        await using var connection = await Database.OpenAsync();

        (await RecordBatchAsync(connection, [Key, Key])).Should().Equal(Key);
    }

    [SkippableFact]
    public async Task Purge_deletes_the_oldest_first()
    {
        var now = await Database.NowAsync();
        await InsertAsync(now.AddDays(-8), now.AddDays(-10), now.AddDays(-9));

        await Store.PurgeInboxAsync(TimeSpan.FromDays(7), 2, default);

        await using var context = Database.CreateShop();
        (await context.Set<InboxMessage>().SingleAsync()).ConsumedAt.Should().Be(now.AddDays(-8));
    }

    [SkippableFact]
    public async Task Two_purgers_delete_each_record_once()
    {
        var now = await Database.NowAsync();
        await InsertAsync([.. Enumerable.Range(0, 200).Select(_ => now.AddDays(-8)), now]);

        var deleted = await Task.WhenAll(Enumerable.Range(0, 2).Select(_ => Task.Run(PurgeUntilNoneAsync)));

        deleted.Sum().Should().Be(200);
        (await CountAsync()).Should().Be(1);
    }

    private protected async Task<int> RecordAsync(DbConnection connection, InboxKey key, DbTransaction? transaction = null)
    {
        await using var command = connection.CreateCommand();
        command.Transaction = transaction;
        Database.CreateDialect(Database.Tables).RecordConsumed(command, key);
        return await command.ExecuteNonQueryAsync();
    }

    private protected async Task<List<InboxKey>> RecordBatchAsync(DbConnection connection, IReadOnlyList<InboxKey> keys, DbTransaction? transaction = null)
    {
        await using var command = connection.CreateCommand();
        command.Transaction = transaction;
        Database.CreateDialect(Database.Tables).RecordBatchConsumed(command, keys);
        await using var reader = await command.ExecuteReaderAsync();
        var recorded = new List<InboxKey>();
        while (await reader.ReadAsync())
            recorded.Add(new InboxKey(reader.GetGuid(0), reader.GetString(1), reader.GetInt32(2)));
        return recorded;
    }

    private async Task InsertAsync(params DateTime[] times)
    {
        await using var context = Database.CreateShop();
        context.AddRange(times.Select(time => new InboxMessage { MessageId = Guid.NewGuid(), Consumer = "stock", ConsumedAt = time }));
        await context.SaveChangesAsync();
    }

    private async Task<int> CountAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Set<InboxMessage>().CountAsync();
    }

    private async Task<int> PurgeUntilNoneAsync()
    {
        var total = 0;
        while (await CountOldAsync() > 0)
            total += await Store.PurgeInboxAsync(TimeSpan.FromDays(7), 7, default);
        return total;
    }

    private async Task<int> CountOldAsync()
    {
        var old = DateTime.UtcNow.AddDays(-7);
        await using var context = Database.CreateShop();
        return await context.Set<InboxMessage>().CountAsync(record => record.ConsumedAt < old);
    }
}

public sealed class InboxOnSqlite(SqliteDatabase database) : InboxOn<SqliteDatabase>(database)
{
    [SkippableTheory]
    [InlineData(true, 0)]
    [InlineData(false, 1)]
    public async Task A_concurrent_copy_is_told_that_the_database_is_busy(bool commit, int affected)
    {
        await using var first = await Database.OpenAsync();
        await using var copy = await Database.OpenAsync($"{Database.ConnectionString};Default Timeout=1");
        await using (var transaction = await first.BeginTransactionAsync())
        {
            await RecordAsync(first, Key, transaction);

            var busy = (await FluentActions.Awaiting(() => RecordAsync(copy, Key)).Should().ThrowAsync<SqliteException>()).Which;
            Store.Classify(busy).Should().Be(DatabaseError.Contention);

            if (commit)
                await transaction.CommitAsync();
        }

        (await RecordAsync(copy, Key)).Should().Be(affected);
    }
}

public sealed class InboxOnPostgreSql(PostgreSqlDatabase database) : InboxOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(true, 0)]
    [InlineData(false, 1)]
    public async Task A_concurrent_copy_waits_and_then_knows(bool commit, int affected)
    {
        await using var first = await Database.OpenAsync();
        await using var second = await Database.OpenAsync();
        await using var transaction = await first.BeginTransactionAsync();
        await RecordAsync(first, Key, transaction);

        var copy = RecordAsync(second, Key);
        await Eventually.BecomesAsync(() => Database.IsBlockedAsync(((NpgsqlConnection)second).ProcessID), "the copy waits for the first transaction");
        copy.IsCompleted.Should().BeFalse();
        if (commit)
            await transaction.CommitAsync();
        else
            await transaction.RollbackAsync();

        (await copy).Should().Be(affected);
    }

    [SkippableFact]
    public async Task A_batch_waits_for_a_copy_of_one_of_its_messages_and_records_the_others()
    {
        await using var first = await Database.OpenAsync();
        await using var second = await Database.OpenAsync();
        var other = Key with { MessageId = Guid.NewGuid() };
        await using var transaction = await first.BeginTransactionAsync();
        await RecordAsync(first, Key, transaction);

        var batch = RecordBatchAsync(second, [Key, other]);
        await Eventually.BecomesAsync(() => Database.IsBlockedAsync(((NpgsqlConnection)second).ProcessID), "the batch waits for the first transaction");
        await transaction.CommitAsync();

        (await batch).Should().Equal(other);
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_question_whether_it_happened_waits_for_a_transaction_that_decides_it(bool commit)
    {
        await using var deciding = await Database.OpenAsync();
        await using var transaction = await deciding.BeginTransactionAsync();
        await RecordAsync(deciding, Key, transaction);

        var question = Store.HasHappenedAsync(Key, waitSeconds: 30, default);
        await Eventually.BecomesAsync(() => Database.BlocksAsync(((NpgsqlConnection)deciding).ProcessID), "the question waits for the transaction");
        question.IsCompleted.Should().BeFalse();
        if (commit)
            await transaction.CommitAsync();
        else
            await transaction.RollbackAsync();

        (await question).Should().Be(commit);
        (await Store.IsConsumedAsync(Key, default)).Should().Be(commit, "asking leaves no record");
    }

    [SkippableFact]
    public async Task A_copy_that_waited_too_long_is_contention()
    {
        await using var first = await Database.OpenAsync();
        await using var second = await Database.OpenAsync();
        await using var transaction = await first.BeginTransactionAsync();
        await RecordAsync(first, Key, transaction);
        await using var command = second.CreateCommand();
        command.CommandTimeout = 1;
        Database.CreateDialect(Database.Tables).RecordConsumed(command, Key);

        var gaveUp = (await FluentActions.Awaiting(() => command.ExecuteNonQueryAsync()).Should().ThrowAsync<DbException>()).Which;

        Store.Classify(gaveUp).Should().Be(DatabaseError.Contention);
    }
}
