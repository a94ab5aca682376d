using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// What is rolled back to a savepoint was never said; what stands around it was.
public abstract class SavepointsOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Only_the_messages_inside_a_savepoint_rolled_back_are_taken_back(bool raw)
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("before");
                if (raw)
                    await request.Db.Database.ExecuteSqlRawAsync("savepoint half");
                else
                    await transaction.CreateSavepointAsync("half");
                await request.PlaceAndSaveAsync("inside");
                if (raw)
                    await request.Db.Database.ExecuteSqlRawAsync("rollback to half");
                else
                    await transaction.RollbackToSavepointAsync("half");
                request.Db.ChangeTracker.Clear();
                await request.PlaceAndSaveAsync("after");
                await transaction.CommitAsync();
            },
            ["before", "after"]);

    [SkippableFact]
    public Task Messages_inside_a_savepoint_released_stay()
        => StoresAndSendsAsync(
            async request =>
            {
                using var transaction = request.Db.Database.BeginTransaction();
                transaction.CreateSavepoint("half");
                await request.PlaceAsync("inside");
                request.Db.SaveChanges();
                transaction.ReleaseSavepoint("half");
                transaction.Commit();
            },
            ["inside"]);

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task A_save_that_fails_inside_a_transaction_and_is_repaired_sends_its_message_once(bool synchronous)
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                var taken = new Order { Number = "A-1" };
                request.Db.Add(taken);
                await request.Outbox.Publish(new OrderPlaced("A-2"));
                // EF Core rolls back to its own savepoint.
                if (synchronous)
                    request.Db.Invoking(failing => failing.SaveChanges()).Should().Throw<DbUpdateException>();
                else
                    await request.Db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
                taken.Number = "A-2";
                await request.Db.SaveChangesAsync();
                await transaction.CommitAsync();
            },
            ["A-1", "A-2"]);

    [SkippableFact]
    public Task A_save_that_fails_inside_a_transaction_and_is_given_up_takes_its_message_along_and_says_so()
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                await request.PlaceAsync("A-1");
                await request.Db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
                await transaction.CommitAsync();
            },
            ["A-1"],
            errors: 1);

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task Unaccepted_changes_rolled_back_to_a_savepoint_and_saved_again_keep_their_message(bool raw)
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.Db.Database.ExecuteSqlRawAsync("savepoint half");
                if (!raw)
                    await transaction.CreateSavepointAsync("half");
                await request.PlaceAsync("A-1");
                await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                if (raw)
                    await request.Db.Database.ExecuteSqlRawAsync("rollback to half");
                else
                    await transaction.RollbackToSavepointAsync("half");
                await request.Db.SaveChangesAsync();
                await transaction.CommitAsync();
            },
            ["A-1"]);
}

public sealed class SavepointsOnSqlite(SqliteDatabase database) : SavepointsOn<SqliteDatabase>(database);

public sealed class SavepointsOnPostgreSql(PostgreSqlDatabase database) : SavepointsOn<PostgreSqlDatabase>(database);
