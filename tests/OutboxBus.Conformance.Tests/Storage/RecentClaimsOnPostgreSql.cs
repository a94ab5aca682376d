using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Storage;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// A claim of what has recently become claimable does not pass what was deleted before, however long the database has to keep it.
public sealed class RecentClaimsOnPostgreSql(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const string Bus = "main";
    private const int RowsPerPage = 5;
    private static readonly TimeSpan Lease = TimeSpan.FromMinutes(5);

    [SkippableFact]
    public async Task A_claim_takes_what_became_claimable_within_the_time()
    {
        var now = await Database.NowAsync();
        var (recent, old, later) = (New(now.AddSeconds(-5)), New(now.AddMinutes(-5)), New(now.AddMinutes(5)));
        await InsertAsync(recent, old, later);

        var claimed = await Database.CreateStore().ClaimAsync(Bus, 10, Lease, default, within: TimeSpan.FromMinutes(1));
        var rest = await Database.CreateStore().ClaimAsync(Bus, 10, Lease, default);

        claimed.Select(row => row.MessageId).Should().Equal(recent.MessageId);
        rest.Select(row => row.MessageId).Should().Equal(old.MessageId);
    }

    [SkippableFact]
    public async Task Deleted_rows_that_vacuum_cannot_remove_are_not_passed()
    {
        const int Dead = 4_000;
        await using var forgotten = new NpgsqlConnection(Database.OwnerConnectionString);
        await forgotten.OpenAsync();
        await using var transaction = await forgotten.BeginTransactionAsync(System.Data.IsolationLevel.RepeatableRead);
        await using (var snapshot = new NpgsqlCommand("select 1", forgotten, transaction))
            await snapshot.ExecuteScalarAsync();
        var now = await Database.NowAsync();
        await InsertAsync([.. Enumerable.Range(0, Dead).Select(_ => New(now.AddMinutes(-5)))]);
        await using (var context = Database.CreateShop())
            await context.Set<Envelope>().ExecuteDeleteAsync();
        await InsertAsync(New(now));

        (await PagesAsync(within: null)).Should().BeGreaterThan(Dead / RowsPerPage);
        (await PagesAsync(TimeSpan.FromMinutes(1))).Should().BeLessThan(100);
    }

    private static Envelope New(DateTime visibleAt) => new() { Bus = Bus, MessageId = Guid.NewGuid(), MessageType = "type", ContentType = "text/plain", VisibleAt = visibleAt, Body = new byte[1_900] };

    private async Task InsertAsync(params Envelope[] rows)
    {
        await using var context = Database.CreateShop();
        context.AddRange(rows);
        await context.SaveChangesAsync();
    }

    // Index and heap pages that a claim looks at.
    private async Task<int> PagesAsync(TimeSpan? within)
    {
        await using var connection = new NpgsqlConnection(Database.OwnerConnectionString);
        await connection.OpenAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await using var command = connection.CreateCommand();
        Database.CreateDialect(new OutboxTables()).Claim(command, Bus, 10, Lease, within);
        command.CommandText = $"explain (analyze, buffers, format json) {command.CommandText}";
        using var plan = System.Text.Json.JsonDocument.Parse((string)(await command.ExecuteScalarAsync())!);
        var top = plan.RootElement[0].GetProperty("Plan");
        return top.GetProperty("Shared Hit Blocks").GetInt32() + top.GetProperty("Shared Read Blocks").GetInt32();
    }
}
