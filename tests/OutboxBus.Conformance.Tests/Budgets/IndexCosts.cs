using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Budgets;

// An ordinary message, neither ordered nor scheduled, has an entry in two indexes: every index more is paid for by each message twice.
public sealed class IndexCosts(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const int Rows = 1000;

    [SkippableFact]
    public async Task A_message_has_two_index_entries()
    {
        await using var shop = Shop.Create(Database, delivers: true);
        await shop.InScopeAsync(async (db, outbox) =>
        {
            for (var row = 0; row < Rows; row++)
                await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        });

        (await IndexEntriesAsync("outbox_message")).Should().Be(2 * Rows);
    }

    [SkippableFact]
    public async Task A_record_of_consumption_has_two_index_entries()
    {
        await using var context = Database.CreateShop();
        context.AddRange(Enumerable.Range(0, Rows).Select(_ => new InboxMessage { MessageId = Guid.NewGuid(), Consumer = "stock" }));
        await context.SaveChangesAsync();

        (await IndexEntriesAsync("inbox_message")).Should().Be(2 * Rows);
    }

    // ANALYZE reads so small a table whole, so that its counts are exact.
    private async Task<int> IndexEntriesAsync(string table)
    {
        await using var context = Database.CreateShop(Database.OwnerConnectionString);
#pragma warning disable EF1002 // the name is a constant of this class
        await context.Database.ExecuteSqlRawAsync($"analyze {table}");
        return await context.Database.SqlQueryRaw<int>($"""
            select sum(index.reltuples)::int as "Value"
            from pg_index join pg_class as index on index.oid = indexrelid
            where indrelid = '{table}'::regclass
            """).SingleAsync();
#pragma warning restore EF1002
    }
}
