using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Npgsql;
using OutboxBus.PostgreSql;
using OutboxBus.Storage;
using OutboxBus.TestServers;

namespace OutboxBus.Conformance.Tests.Engines;

public sealed class PostgreSqlDatabase : TestDatabase
{
    public override string Engine => "PostgreSql";

    public override string NowExpression => "clock_timestamp()";

    public override Task<string> CreateAsync() => Servers.PostgresDatabaseAsync("conformance");

    public override void Configure(DbContextOptionsBuilder options, string connectionString) => options.UseNpgsql(connectionString);

    public override void Choose(OutboxStoreConfigurator store) => store.UsePostgreSql();

    public override SqlDialect CreateDialect(OutboxTables tables) => new PostgreSqlDialect(tables);

    public override DbConnection CreateConnection(string connectionString) => new NpgsqlConnection(connectionString);

    // The backend waits for a lock held by another transaction.
    public async Task<bool> IsBlockedAsync(int processId)
    {
        await using var connection = await OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = $"select cardinality(pg_blocking_pids({processId})) > 0";
        return (bool)(await command.ExecuteScalarAsync())!;
    }

    // Somebody waits for a lock that the backend holds.
    public async Task<bool> BlocksAsync(int processId)
    {
        await using var connection = await OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = $"select exists (select from pg_stat_activity where {processId} = any(pg_blocking_pids(pid)))";
        return (bool)(await command.ExecuteScalarAsync())!;
    }

    // Until some backend of this database waits for a lock.
    public Task SomebodyIsBlockedAsync() => Eventually.BecomesAsync(
        async () =>
        {
            await using var connection = await OpenAsync();
            await using var command = connection.CreateCommand();
            command.CommandText = "select exists (select from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)";
            return (bool)(await command.ExecuteScalarAsync())!;
        },
        "a statement waits for a lock");

    public override async Task<IReadOnlyList<string>> CatalogAsync(DbConnection connection) =>
    [
        .. await LinesAsync(connection, """
            select table_schema, table_name, column_name, udt_name, character_maximum_length, is_nullable, column_default, is_identity, identity_generation
            from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema') order by 1, 2, 3
            """),
        .. await LinesAsync(connection, "select schemaname, indexname, indexdef from pg_indexes where schemaname not in ('pg_catalog', 'information_schema') order by 1, 2"),
        .. await LinesAsync(connection, """
            select conrelid::regclass::text as "table", conname, pg_get_constraintdef(oid) as definition
            from pg_constraint where connamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) and contype <> 'n' order by 1, 2
            """),
        .. await LinesAsync(connection, """
            select relname, (select string_agg(setting, ',' order by setting) from unnest(reloptions) as setting) as settings
            from pg_class where relkind = 'r' and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) order by 1
            """),
        .. await LinesAsync(connection, "select sequencename, data_type, increment_by, cache_size, cycle from pg_sequences order by 1"),
    ];
}
