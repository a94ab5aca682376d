using System.Transactions;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// PostgreSQL aborts a transaction when one of its statements fails. Whoever swallows that error and commits gets a rollback that looks like a commit.
public sealed class AbortedTransactionsOnPostgreSql(PostgreSqlDatabase database) : TransactionsOn<PostgreSqlDatabase>(database)
{
    private const string Failing = "select 1 / 0";

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public Task The_commit_of_an_aborted_transaction_that_has_messages_throws(bool synchronous)
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                const string Expected = "The transaction of ShopDb cannot be committed*silent rollback*Remedy*savepoint*";
                if (synchronous)
                {
                    request.Db.Database.Invoking(failing => failing.ExecuteSqlRaw(Failing)).Should().Throw<PostgresException>();
                    transaction.Invoking(aborted => aborted.Commit()).Should().Throw<OutboxBusException>().WithMessage(Expected);
                }
                else
                {
                    await request.Db.Database.Awaiting(failing => failing.ExecuteSqlRawAsync(Failing)).Should().ThrowAsync<PostgresException>();
                    await transaction.Awaiting(aborted => aborted.CommitAsync()).Should().ThrowAsync<OutboxBusException>().WithMessage(Expected);
                }
            },
            []);

    [SkippableFact]
    public Task The_commit_after_a_cancelled_statement_throws_too()
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                await using var rival = Database.CreateShop();
                await using var locking = await rival.Database.BeginTransactionAsync();
                await rival.Database.ExecuteSqlRawAsync("select pg_advisory_xact_lock(1)");
                using var cancellation = new CancellationTokenSource();
                var waiting = request.Db.Database.ExecuteSqlRawAsync("select pg_advisory_xact_lock(1)", cancellation.Token);
                await Database.SomebodyIsBlockedAsync();
                await cancellation.CancelAsync();
                await request.Awaiting(_ => waiting).Should().ThrowAsync<OperationCanceledException>();
                await transaction.Awaiting(aborted => aborted.CommitAsync()).Should().ThrowAsync<OutboxBusException>();
            },
            []);

    [SkippableFact]
    public Task The_commit_after_a_swallowed_save_without_savepoints_throws_too()
        => StoresAndSendsAsync(
            async request =>
            {
                request.Db.Database.AutoSavepointsEnabled = false;
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                request.Db.Add(new Order { Number = "A-1" });
                await request.Db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
                await transaction.Awaiting(aborted => aborted.CommitAsync()).Should().ThrowAsync<OutboxBusException>();
            },
            []);

    [SkippableFact]
    public Task The_commit_after_a_batch_that_failed_at_its_second_statement_throws_too()
        => StoresAndSendsAsync(
            async request =>
            {
                request.Db.Database.AutoSavepointsEnabled = false;
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                request.Db.AddRange(new Order { Number = "A-2" }, new Order { Number = "A-1" });
                await request.Db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
                await transaction.Awaiting(aborted => aborted.CommitAsync()).Should().ThrowAsync<OutboxBusException>();
            },
            []);

    [SkippableFact]
    public Task A_failure_rolled_back_to_a_savepoint_does_not_stop_the_commit()
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                await transaction.CreateSavepointAsync("risky");
                await request.Db.Database.Awaiting(failing => failing.ExecuteSqlRawAsync(Failing)).Should().ThrowAsync<PostgresException>();
                await transaction.RollbackToSavepointAsync("risky");
                await transaction.CommitAsync();
            },
            ["A-1"]);

    [SkippableFact]
    public Task A_failure_in_an_earlier_transaction_does_not_stop_the_commit()
        => StoresAndSendsAsync(
            async request =>
            {
                await using (await request.Db.Database.BeginTransactionAsync())
                    await request.Db.Database.Awaiting(failing => failing.ExecuteSqlRawAsync(Failing)).Should().ThrowAsync<PostgresException>();
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                await transaction.CommitAsync();
            },
            ["A-1"]);

    [SkippableFact]
    public Task A_transaction_that_others_have_ended_is_not_asked()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.Db.Database.OpenConnectionAsync();
                await using var transaction = await request.Db.Database.GetDbConnection().BeginTransactionAsync();
                await request.Db.Database.UseTransactionAsync(transaction);
                await request.PlaceAndSaveAsync("A-1");
                await request.Db.Database.Awaiting(failing => failing.ExecuteSqlRawAsync(Failing)).Should().ThrowAsync<PostgresException>();
                await transaction.RollbackAsync();
                await request.Db.Database.Awaiting(ended => ended.CommitTransactionAsync()).Should().ThrowAsync<InvalidOperationException>("that is what Npgsql says");
            },
            []);

    // Nobody tells EF Core of a statement that fails on the bare connection; Npgsql commits without a word. Still nothing is sent that is not stored.
    [SkippableFact]
    public Task An_abort_that_EF_Core_does_not_see_sends_nothing()
        => StoresAndSendsAsync(
            async request =>
            {
                await using var transaction = await request.Db.Database.BeginTransactionAsync();
                await request.PlaceAndSaveAsync("A-1");
                await using (var command = request.Db.Database.GetDbConnection().CreateCommand())
                {
                    command.CommandText = Failing;
                    await command.Awaiting(failing => failing.ExecuteNonQueryAsync()).Should().ThrowAsync<PostgresException>();
                }

                await transaction.Awaiting(aborted => aborted.CommitAsync()).Should().NotThrowAsync();
            },
            []);

    [SkippableFact]
    public Task An_aborted_transaction_in_a_completed_TransactionScope_sends_nothing()
        => StoresAndSendsAsync(
            async request =>
            {
                using var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled);
                await request.PlaceAndSaveAsync("A-1");
                await request.Db.Database.Awaiting(failing => failing.ExecuteSqlRawAsync(Failing)).Should().ThrowAsync<PostgresException>();
                scope.Complete();
            },
            []);
}
