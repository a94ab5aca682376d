using FluentAssertions;
using Npgsql;
using Xunit;

namespace OutboxBus.TestServers.Tests;

public sealed class PostgresTapTests : IAsyncLifetime
{
    private PostgresTap? _tap;

    // Opened by the test itself, because only an exception inside a test can skip it.
    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        NpgsqlConnection.ClearAllPools();
        if (_tap is not null)
            await _tap.DisposeAsync();
    }

    [SkippableFact]
    public async Task A_statement_is_one_round_trip_whatever_its_answer()
    {
        await using var connection = await OpenAsync();

        (await CostAsync(() => ExecuteAsync(connection, "select 1"))).Should().Be((1, 1));
        (await CostAsync(() => ExecuteAsync(connection, "select * from generate_series(1, 20000)"))).Should().Be((1, 1));
        (await CostAsync(() => FluentActions.Awaiting(() => ExecuteAsync(connection, "select 1 / 0")).Should().ThrowAsync<PostgresException>())).Should().Be((1, 0));
        (await CostAsync(() => ExecuteAsync(connection, $"select '{new string('x', 100_000)}'"))).Should().Be((1, 1), "a large statement leaves the client in pieces");
    }

    [SkippableFact]
    public async Task BEGIN_travels_with_the_first_statement_and_COMMIT_alone()
    {
        await using var connection = await OpenAsync();
        NpgsqlTransaction? transaction = null;

        (await CostAsync(async () => transaction = await connection.BeginTransactionAsync())).Should().Be((0, 0));
        (await CostAsync(() => ExecuteAsync(connection, "select 1"))).Should().Be((1, 2));
        (await CostAsync(() => transaction!.CommitAsync())).Should().Be((1, 1));
    }

    // The server answers the BEGIN while the client is still writing the rest.
    [SkippableFact]
    public async Task BEGIN_travels_with_a_first_statement_of_any_size()
    {
        await using var connection = await OpenAsync();
        for (var size = 8_000; size < 8_400; size++)
        {
            NpgsqlTransaction? transaction = null;
            var cost = await CostAsync(async () =>
            {
                transaction = await connection.BeginTransactionAsync();
                await ExecuteAsync(connection, $"select '{new string('x', size)}'");
            });
            await transaction!.RollbackAsync();

            cost.Should().Be((1, 2), $"of {size} bytes");
        }
    }

    [SkippableFact]
    public async Task A_batch_is_one_round_trip()
    {
        await using var connection = await OpenAsync();
        await using var batch = connection.CreateBatch();
        for (var number = 0; number < 500; number++)
            batch.BatchCommands.Add(new NpgsqlBatchCommand($"select {number}, '{new string('x', 100)}'"));

        (await CostAsync(() => batch.ExecuteNonQueryAsync())).Should().Be((1, 500));
    }

    [SkippableFact]
    public async Task A_connection_given_back_and_taken_again_costs_no_round_trip()
    {
        await using (var connection = await OpenAsync())
            await ExecuteAsync(connection, "select 1");

        (await CostAsync(async () =>
        {
            await using var again = await OpenAsync();
            await ExecuteAsync(again, "select 1");
        })).RoundTrips.Should().Be(1, "the reset travels with the next statement");
    }

    private async Task<NpgsqlConnection> OpenAsync()
    {
        _tap ??= new PostgresTap(await Servers.PostgresDatabaseAsync("tap"));
        var connection = new NpgsqlConnection(_tap.ConnectionString);
        await connection.OpenAsync();
        return connection;
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }

    private async Task<(long RoundTrips, long Statements)> CostAsync(Func<Task> action)
    {
        var (roundTrips, statements) = (_tap!.RoundTrips, _tap.Statements);
        await action();
        return (_tap.RoundTrips - roundTrips, _tap.Statements - statements);
    }
}
