using FluentAssertions;
using Npgsql;
using OutboxBus.PostgreSql;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

public sealed class IdleSessions
{
    [SkippableFact]
    public async Task Connection_that_the_server_ended_while_it_was_idle_is_unavailable()
    {
        await using var source = NpgsqlDataSource.Create(await Servers.PostgresDatabaseAsync("idle"));
        await using var watcher = await source.OpenConnectionAsync();
        await using var connection = await source.OpenConnectionAsync();
        await using (var set = new NpgsqlCommand("set idle_session_timeout = 50", connection))
            await set.ExecuteNonQueryAsync();
        await using var alive = new NpgsqlCommand($"select exists (select from pg_stat_activity where pid = {connection.ProcessID})", watcher);
        await Eventually.BecomesAsync(async () => !(bool)(await alive.ExecuteScalarAsync())!, "the server has ended the session");
        await using var command = new NpgsqlCommand("select 1", connection);

        var error = (await FluentActions.Awaiting(() => command.ExecuteScalarAsync()).Should().ThrowAsync<Exception>()).Which;
        new PostgreSqlDialect(new OutboxTables()).Classify(error).Should().Be(DatabaseError.Unavailable, error.ToString());
    }
}
