using FluentAssertions;
using Npgsql;
using Xunit;

namespace OutboxBus.TestServers.Tests;

public sealed class PostgresServerTests
{
    [SkippableFact]
    public async Task Fresh_databases_are_usable_and_separate()
    {
        var one = await Servers.PostgresDatabaseAsync("Fixture.One");
        var other = await Servers.PostgresDatabaseAsync("Fixture.One");

        await ExecuteAsync(one, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)");

        (await ExecuteAsync(one, "SELECT count(*) FROM kept")).Should().Be(1L);
        (await ExecuteAsync(other, "SELECT to_regclass('kept')::text")).Should().Be(DBNull.Value);
    }

    [SkippableFact]
    public async Task Committed_data_survives_a_kill_and_running_statements_do_not_go_on()
    {
        await using var server = await Servers.PrivatePostgresAsync();
        var database = await server.CreateDatabaseAsync("kill");
        await ExecuteAsync(database, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)");
        await using var open = new NpgsqlConnection(database);
        await open.OpenAsync();
        await using var transaction = await open.BeginTransactionAsync();
        await ExecuteAsync(open, "INSERT INTO kept VALUES (2)");
        // Busy and not waiting for anything, which is when a backend does not notice that the postmaster has died.
        await using var busyConnection = new NpgsqlConnection(database);
        await busyConnection.OpenAsync();
        var busy = ExecuteAsync(busyConnection, "SELECT sum(a) FROM generate_series(1, 10000000000) a");

        await server.KillAsync();

        await FluentActions.Awaiting(() => busy).Should().ThrowAsync<NpgsqlException>();
        await server.RestartAsync();
        NpgsqlConnection.ClearAllPools();
        (await ExecuteAsync(database, "SELECT array_agg(id) FROM kept")).Should().BeEquivalentTo(new[] { 1 });
        (await ExecuteAsync(database, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")).Should().Be(1L);
    }

    [SkippableFact]
    public async Task Data_survives_an_orderly_restart_and_the_folder_goes_with_the_server()
    {
        string folder;
        await using (var server = await Servers.PrivatePostgresAsync())
        {
            var database = await server.CreateDatabaseAsync("stop");
            await ExecuteAsync(database, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)");
            await server.StopAsync();
            await server.RestartAsync();
            NpgsqlConnection.ClearAllPools();
            (await ExecuteAsync(database, "SELECT count(*) FROM kept")).Should().Be(1L);
            folder = (string)(await ExecuteAsync(database, "SHOW data_directory"))!;
        }

        Directory.Exists(Path.GetDirectoryName(folder)).Should().BeFalse();
    }

    private static async Task<object?> ExecuteAsync(string connectionString, string sql)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.OpenAsync();
        return await ExecuteAsync(connection, sql);
    }

    private static async Task<object?> ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 0 };
        return await command.ExecuteScalarAsync();
    }
}
