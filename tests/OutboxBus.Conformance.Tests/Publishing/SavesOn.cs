using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// A scope may save and commit as often as it likes: each message rides the next save after its publish.
public abstract class SavesOn<TDatabase>(TDatabase database) : TransactionsOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(AutoTransactionBehavior.WhenNeeded)]
    [InlineData(AutoTransactionBehavior.Always)]
    public Task Each_save_of_a_scope_takes_what_was_published_before_it(AutoTransactionBehavior behavior)
        => StoresAndSendsAsync(
            async request =>
            {
                request.Db.Database.AutoTransactionBehavior = behavior;
                await request.PlaceAndSaveAsync("A-1");
                await request.PlaceAsync("A-2");
                request.Db.SaveChanges();
                await request.Db.SaveChangesAsync();
                await request.PlaceAndSaveAsync("A-3");
            },
            ["A-1", "A-2", "A-3"]);

    [SkippableFact]
    public Task Each_commit_of_a_scope_sends_its_own_messages()
        => StoresAndSendsAsync(
            async request =>
            {
                await using (var first = await request.Db.Database.BeginTransactionAsync())
                {
                    await request.PlaceAndSaveAsync("A-1");
                    await first.CommitAsync();
                }

                using (var second = request.Db.Database.BeginTransaction())
                {
                    await request.PlaceAsync("A-2");
                    request.Db.SaveChanges();
                    await request.PlaceAsync("A-3");
                    request.Db.SaveChanges();
                    second.Commit();
                }

                await request.PlaceAndSaveAsync("A-4");
            },
            ["A-1", "A-2", "A-3", "A-4"]);

    [SkippableFact]
    public async Task In_a_scope_that_lives_for_long_each_message_leaves_after_its_save()
    {
        await using var shop = await DeliveringAsync();
        await InScopeAsync(shop, async circuit =>
        {
            for (var click = 1; click <= 5; click++)
            {
                await circuit.PlaceAsync($"A-{click}");
                shop.Sent.Should().HaveCount(click - 1);
                await circuit.Db.SaveChangesAsync();
                await ArriveAsync(shop, $"A-{click}");
            }
        });

        await SentAloneAsync(shop, "A-1", "A-2", "A-3", "A-4", "A-5");
    }

    [SkippableFact]
    public async Task Parallel_scopes_do_not_see_each_others_messages()
    {
        await using var shop = await DeliveringAsync();
        await InScopeAsync(shop, async kept => await InScopeAsync(shop, async lost =>
        {
            await kept.PlaceAsync("A-1");
            await lost.PlaceAsync("B-1");
            await kept.Db.SaveChangesAsync();
            (await OrdersAsync()).Should().Equal("A-1");
        }));

        await SentAloneAsync(shop, "A-1");
        shop.Errors.Should().ContainSingle().Which.Should().Contain("1 captured message(s) were never saved");
    }

    [SkippableFact]
    public Task A_failure_between_publish_and_save_leaves_nothing()
        => StoresAndSendsAsync(
            async request =>
            {
                Func<Task> failing = async () =>
                {
                    await request.PlaceAsync("A-1");
                    throw new TimeoutException("a service did not answer");
                };
                await failing.Should().ThrowAsync<TimeoutException>();
            },
            [],
            errors: 1);
}

public sealed class SavesOnSqlite(SqliteDatabase database) : SavesOn<SqliteDatabase>(database);

public sealed class SavesOnPostgreSql(PostgreSqlDatabase database) : SavesOn<PostgreSqlDatabase>(database);
