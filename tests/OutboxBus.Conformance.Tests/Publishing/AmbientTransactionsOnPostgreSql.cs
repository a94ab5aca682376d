using System.Transactions;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// System.Transactions decide too. SQLite's driver knows none.
public sealed class AmbientTransactionsOnPostgreSql(PostgreSqlDatabase database) : TransactionsOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public Task A_TransactionScope_decides_about_all_its_saves(bool complete)
        => StoresAndSendsAsync(
            async request =>
            {
                using var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled);
                await request.PlaceAndSaveAsync("A-1");
                await request.PlaceAndSaveAsync("A-2");
                if (complete)
                    scope.Complete();
            },
            complete ? ["A-1", "A-2"] : []);

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public Task A_synchronous_TransactionScope_decides(bool complete)
        => StoresAndSendsAsync(
            request =>
            {
                using var scope = new TransactionScope();
                request.PlaceAsync("A-1").IsCompletedSuccessfully.Should().BeTrue("publishing waits for nobody");
                request.Db.SaveChanges();
                if (complete)
                    scope.Complete();
                return Task.CompletedTask;
            },
            complete ? ["A-1"] : []);

    [SkippableFact]
    public Task A_message_published_inside_a_scope_and_saved_after_it_does_not_depend_on_it()
        => StoresAndSendsAsync(
            async request =>
            {
                using (new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
                    await request.PlaceAsync("A-1");
                await request.Db.SaveChangesAsync();
            },
            ["A-1"]);

    [SkippableFact]
    public Task What_is_saved_outside_a_suppressed_scope_does_not_depend_on_it()
        => StoresAndSendsAsync(
            async request =>
            {
                using (new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
                {
                    using var suppressed = new TransactionScope(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled);
                    await request.PlaceAndSaveAsync("A-1");
                    suppressed.Complete();
                }
            },
            ["A-1"]);

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public Task A_transaction_enlisted_by_hand_decides(bool commit)
        => StoresAndSendsAsync(
            async request =>
            {
                using var transaction = new CommittableTransaction();
                await request.Db.Database.OpenConnectionAsync();
                request.Db.Database.EnlistTransaction(transaction);
                await request.PlaceAndSaveAsync("A-1");
                if (commit)
                    transaction.Commit();
                else
                    transaction.Rollback();
            },
            commit ? ["A-1"] : []);

    [SkippableFact]
    public Task Unaccepted_changes_of_an_aborted_scope_are_saved_again_with_their_message()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                using (new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
                    await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                await request.Db.SaveChangesAsync();
            },
            ["A-1"]);

    [SkippableFact]
    public Task Unaccepted_changes_of_a_completed_scope_are_accepted_with_their_message()
        => StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                using (var scope = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
                {
                    await request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                    scope.Complete();
                }

                request.Db.ChangeTracker.AcceptAllChanges();
                (await request.Db.SaveChangesAsync()).Should().Be(0);
            },
            ["A-1"]);
}
