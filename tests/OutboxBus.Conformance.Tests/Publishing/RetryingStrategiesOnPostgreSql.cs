using System.Data.Common;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// An operation that EF Core repeats after a transient failure stores its message once. SQLite has no such strategy.
public sealed class RetryingStrategiesOnPostgreSql(PostgreSqlDatabase database) : TransactionsOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(Failure.OfInsert)]
    [InlineData(Failure.OfCommit)]
    public Task A_message_published_before_the_operation(Failure failure)
        => RepeatedAsync(
            failure,
            request => request.PlaceAsync("A-1"),
            request => request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false),
            request => request.Db.ChangeTracker.AcceptAllChanges());

    // EF Core's own advice is to clear the change tracker before an operation is repeated.
    [SkippableTheory]
    [InlineData(Failure.OfInsert, 1)]
    [InlineData(Failure.OfCommit, 0)]
    public Task A_message_published_within_the_operation(Failure failure, int reported)
        => RepeatedAsync(
            failure,
            _ => Task.CompletedTask,
            async request =>
            {
                request.Db.ChangeTracker.Clear();
                await request.PlaceAndSaveAsync("A-1");
            },
            _ => { },
            reported);

    [SkippableFact]
    public Task A_message_of_ExecuteInTransaction_whose_commit_got_no_answer()
    {
        var faults = new Faults(Failure.OfCommitsAnswer);
        return StoresAndSendsAsync(
            async request =>
            {
                faults.StrikeOnce(request.Db);
                await request.PlaceAsync("A-1");
                await request.Db.Database.CreateExecutionStrategy().ExecuteInTransactionAsync(
                    () => request.Db.SaveChangesAsync(acceptAllChangesOnSuccess: false),
                    () => request.Db.Orders.AnyAsync(order => order.Number == "A-1"));
                request.Db.ChangeTracker.AcceptAllChanges();
                await request.PlaceAndSaveAsync("A-2");
            },
            ["A-1", "A-2"],
            context: options => Retrying(options, faults));
    }

    private Task RepeatedAsync(Failure failure, Func<Request, Task> before, Func<Request, Task> within, Action<Request> after, int reported = 0)
    {
        var faults = new Faults(failure);
        return StoresAndSendsAsync(
            async request =>
            {
                var attempts = 0;
                faults.StrikeOnce(request.Db);
                await before(request);
                await request.Db.Database.CreateExecutionStrategy().ExecuteAsync(async () =>
                {
                    attempts++;
                    await using var transaction = await request.Db.Database.BeginTransactionAsync();
                    await within(request);
                    await transaction.CommitAsync();
                });
                after(request);
                await request.Db.SaveChangesAsync();
                attempts.Should().Be(2);
            },
            ["A-1"],
            context: options => Retrying(options, faults),
            errors: reported);
    }

    private void Retrying(DbContextOptionsBuilder options, Faults faults)
        => options.UseNpgsql(Database.ConnectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null)).AddInterceptors(faults);

    // A transient failure strikes a context once.
    private sealed class Faults(Failure failure) : DbCommandInterceptor, IDbTransactionInterceptor
    {
        private DbContext? _victim;

        public void StrikeOnce(DbContext victim) => _victim = victim;

        public override ValueTask<InterceptionResult<DbDataReader>> ReaderExecutingAsync(DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result, CancellationToken cancellationToken = default)
        {
            if (command.CommandText.Contains("INSERT", StringComparison.OrdinalIgnoreCase))
                Strike(Failure.OfInsert, eventData.Context);
            return new(result);
        }

        public ValueTask<InterceptionResult> TransactionCommittingAsync(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
        {
            Strike(Failure.OfCommit, eventData.Context);
            return new(result);
        }

        public Task TransactionCommittedAsync(DbTransaction transaction, TransactionEndEventData eventData, CancellationToken cancellationToken = default)
        {
            Strike(Failure.OfCommitsAnswer, eventData.Context);
            return Task.CompletedTask;
        }

        private void Strike(Failure at, DbContext? context)
        {
            if (at != failure || context is null || context != _victim)
                return;
            _victim = null;
            throw new PostgresException("too many connections", "FATAL", "FATAL", PostgresErrorCodes.TooManyConnections);
        }
    }
}

public enum Failure
{
    OfInsert,
    OfCommit,
    OfCommitsAnswer,
}
