using System.Data.Common;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// On PostgreSQL messages travel with the command of a save that has rows. With a single row that needs no transaction of its own:
// the statements of a command take effect together or not at all, and these tests try to part them.
public sealed class AppendedMessagesOnPostgreSql(PostgreSqlDatabase database) : TransactionsOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_message_that_cannot_be_stored_takes_its_order_along(bool synchronous)
    {
        await using var shop = Shop.Create(Database);
        await WithTriggerAsync("outbox_message", "raise exception 'no room'", () => shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("A-1"));
            var failure = await db.Awaiting(failing => SaveAsync(failing, synchronous)).Should().ThrowAsync<DbUpdateException>();
            failure.WithInnerException<PostgresException>().Which.MessageText.Should().Be("no room");
        }));

        (await OrdersAsync()).Should().BeEmpty();
        (await MessagesAsync()).Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_order_that_cannot_be_stored_keeps_its_own_error(bool synchronous)
    {
        await using var shop = Shop.Create(Database);
        await WithTriggerAsync("\"Orders\"", "raise exception 'no shelf'", () => shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("A-1"));
            var failure = await db.Awaiting(failing => SaveAsync(failing, synchronous)).Should().ThrowAsync<DbUpdateException>();
            failure.WithInnerException<PostgresException>().Which.MessageText.Should().Be("no shelf");
        }));

        (await MessagesAsync()).Should().BeEmpty();
    }

    // PostgreSQL ends the session in the middle of the command, with the order's statement done.
    [SkippableFact]
    public async Task A_session_that_ends_between_the_two_leaves_neither()
    {
        await using var shop = Shop.Create(Database);
        await WithTriggerAsync("outbox_message", "perform pg_terminate_backend(pg_backend_pid())", () => shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<Exception>();
        }));

        (await OrdersAsync()).Should().BeEmpty();
        (await MessagesAsync()).Should().BeEmpty();
    }

    // Its statement succeeds and changes nothing; only EF Core knows that this is a failure, when the command has taken effect.
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_row_that_is_gone_takes_the_message_along(bool deletes)
    {
        await using var shop = Shop.Create(Database);
        await shop.InScopeAsync(async (db, outbox) =>
        {
            var order = new Order { Number = "A-1" };
            db.Add(order);
            await db.SaveChangesAsync();
            await db.Orders.ExecuteDeleteAsync();

            if (deletes)
                db.Remove(order);
            else
                order.Number = "A-2";
            await outbox.Publish(new OrderPlaced("A-2"));
            await db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateConcurrencyException>();
        });

        (await MessagesAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public Task Immediate_and_delayed_messages_share_a_save() => StoresAndSendsAsync(
        async request =>
        {
            request.Db.Add(new Order { Number = "A-1" });
            await request.Outbox.Publish(new OrderPlaced("later"), new PublishOptions { Delay = TimeSpan.FromHours(1) });
            await request.Outbox.Publish(new OrderPlaced("A-1"));
            await request.Outbox.Publish(new OrderPlaced("later still"), new PublishOptions { Delay = TimeSpan.FromHours(2) });
            await request.Db.SaveChangesAsync();
            await request.Db.Set<Envelope>().Where(envelope => envelope.DueAt != null && envelope.VisibleAt == envelope.DueAt).ExecuteDeleteAsync();
        },
        ["A-1"]);

    [SkippableFact]
    public Task Orders_of_several_commands_share_one_statement_for_their_messages()
    {
        string[] numbers = [.. Enumerable.Range(1, 10).Select(number => $"A-{number:D2}")];
        return StoresAndSendsAsync(
            async request =>
            {
                foreach (var number in numbers)
                    await request.PlaceAsync(number);
                await request.Db.SaveChangesAsync();
            },
            numbers,
            options => options.UseNpgsql(Database.ConnectionString, npgsql => npgsql.MaxBatchSize(3)));
    }

    // The save's own transaction, repeated as a whole by EF Core.
    [SkippableFact]
    public Task A_save_repeated_after_a_failed_commit_stores_its_messages_once()
    {
        var failure = new FailedCommit();
        return StoresAndSendsAsync(
            async request =>
            {
                await request.PlaceAsync("A-1");
                await request.PlaceAsync("A-2");
                failure.IsDue = true;
                await request.Db.SaveChangesAsync();
                failure.IsDue.Should().BeFalse();
            },
            ["A-1", "A-2"],
            options => options.UseNpgsql(Database.ConnectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null)).AddInterceptors(failure));
    }

    // EF Core has a warning for a command that returns more than it expects, and applications turn warnings into errors.
    [SkippableFact]
    public Task The_result_of_the_statement_disturbs_nobody() => StoresAndSendsAsync(
        request => request.PlaceAndSaveAsync("A-1"),
        ["A-1"],
        options => options.ConfigureWarnings(warnings => warnings.Default(WarningBehavior.Throw)));

    [SkippableFact]
    public Task A_command_that_the_application_has_commented_is_understood() => StoresAndSendsAsync(
        request => request.PlaceAndSaveAsync("A-1"),
        ["A-1"],
        options => options.AddInterceptors(new Comments()));

    // What was never a row of EF Core's cannot be in its change tracker; what a failed save has tried is, and clearing it gives it up.
    [SkippableFact]
    public async Task Messages_of_a_save_that_succeeded_are_no_entities()
    {
        await using var shop = Shop.Create(Database);
        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.SavedChanges += (_, _) => db.ChangeTracker.Entries<Envelope>().Should().BeEmpty();
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        });
        (await MessagesAsync()).Should().Equal("A-1");
    }

    private static async Task SaveAsync(ShopDb db, bool synchronous)
    {
        if (synchronous)
            db.SaveChanges();
        else
            await db.SaveChangesAsync();
    }

    private async Task WithTriggerAsync(string table, string statement, Func<Task> test)
    {
        await using var owner = Database.CreateShop(Database.OwnerConnectionString);
#pragma warning disable EF1002 // the arguments are constants of this class
        await owner.Database.ExecuteSqlRawAsync($"""
            create function disturb() returns trigger language plpgsql security definer as $$ begin {statement}; return new; end $$;
            create trigger disturb before insert on {table} for each row execute function disturb();
            """);
        try
        {
            await test();
        }
        finally
        {
            await owner.Database.ExecuteSqlRawAsync($"drop trigger disturb on {table}; drop function disturb()");
        }
#pragma warning restore EF1002
    }

    private sealed class FailedCommit : DbTransactionInterceptor
    {
        public bool IsDue { get; set; }

        public override ValueTask<InterceptionResult> TransactionCommittingAsync(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
        {
            if (!IsDue)
                return new(result);
            IsDue = false;
            throw new PostgresException("too many connections", "FATAL", "FATAL", PostgresErrorCodes.TooManyConnections);
        }
    }

    private sealed class Comments : DbCommandInterceptor
    {
        public override ValueTask<InterceptionResult<DbDataReader>> ReaderExecutingAsync(DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result, CancellationToken cancellationToken = default)
        {
            command.CommandText += " -- of the application";
            return new(result);
        }
    }
}
