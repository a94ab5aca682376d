using FluentAssertions;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Budgets;

// A publish costs no more round trips than one further business row would.
public sealed class PublishingCosts(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private int _number;

    public static TheoryData<int, int, bool> Saves
    {
        get
        {
            var saves = new TheoryData<int, int, bool>();
            foreach (var autoPrepare in (bool[])[false, true])
            {
                foreach (var (rows, messages) in ((int, int)[])[(0, 1), (1, 1), (2, 1), (9, 1), (0, 10), (1, 10), (10, 10), (100, 100)])
                    saves.Add(rows, messages, autoPrepare);
            }

            return saves;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Saves))]
    public async Task A_message_costs_what_a_row_costs(int rows, int messages, bool autoPrepare)
    {
        await using var tap = new PostgresTap(Database.ConnectionString);
        var connectionString = new NpgsqlConnectionStringBuilder(tap.ConnectionString) { MaxAutoPrepare = autoPrepare ? 100 : 0, AutoPrepareMinUsages = 2 };
        // Delivery is on, so that the rows are leased and handed off; it is not started, so that nothing else asks the database.
        await using var shop = Shop.Create(Database, delivers: true, connectionString: connectionString.ConnectionString);

        // Not the first time: the driver opens a connection, loads types, prepares.
        for (var time = 0; time < 4; time++)
        {
            var withRows = await CostAsync(shop, tap, rows + messages, 0);
            var withMessages = await CostAsync(shop, tap, rows, messages);

            if (time == 0)
                continue;
            withRows.Should().Be(rows + messages == 1 ? 1 : 2, "it is a batch and its COMMIT, or one statement, which needs none");
            // The messages travel with the rows' command: with a single row that is one round trip, which takes effect as a whole.
            withMessages.Should().Be(rows == 1 ? 1 : withRows);
        }
    }

    [SkippableTheory]
    [InlineData(0, 1)]
    [InlineData(1, 3)]
    [InlineData(9, 3)]
    public async Task Cancellations_cost_one_statement_and_a_transaction(int rows, int expected)
    {
        await using var tap = new PostgresTap(Database.ConnectionString);
        await using var shop = Shop.Create(Database, delivers: true, connectionString: tap.ConnectionString);
        await CostAsync(shop, tap, rows, 0, cancellations: 3);

        // BEGIN travels with the statement; the batch; COMMIT.
        (await CostAsync(shop, tap, rows, 0, cancellations: 3)).Should().Be(expected);
    }

    private async Task<long> CostAsync(Shop shop, PostgresTap tap, int rows, int messages, int cancellations = 0)
    {
        var before = tap.RoundTrips;
        await shop.InScopeAsync(async (db, outbox) =>
        {
            for (var row = 0; row < rows; row++)
                db.Add(new Order { Number = $"{_number++}" });
            for (var message = 0; message < messages; message++)
                await outbox.Publish(new OrderPlaced($"{_number++}"));
            for (var cancelled = 0; cancelled < cancellations; cancelled++)
                await outbox.CancelScheduled(Guid.NewGuid());
            await db.SaveChangesAsync();
        });
        return tap.RoundTrips - before;
    }
}
