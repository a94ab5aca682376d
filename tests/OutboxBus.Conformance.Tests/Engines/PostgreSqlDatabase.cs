using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Npgsql;
using OutboxBus.PostgreSql;
using OutboxBus.Storage;
using OutboxBus.TestServers;

namespace OutboxBus.Conformance.Tests.Engines;

public class PostgreSqlDatabase : TestDatabase
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

    // A role that may connect and use these rows, and nothing else. An insert into an identity column needs no right on its sequence;
    // "for update" needs the right to update.
    protected override async Task<string> AdmitApplicationAsync(ShopDb owner)
    {
        var application = new NpgsqlConnectionStringBuilder(owner.Database.GetConnectionString());
        application.Username = application.Password = $"{application.Database}_app";
        var (outbox, deadLetter, inbox) = (TableOf<Envelope>(owner), TableOf<DeadLetter>(owner), TableOf<InboxMessage>(owner));
        var (orders, progress) = (TableOf<Order>(owner), TableOf<OrderProgress>(owner));
        var schema = Quoted(owner.Model.FindEntityType(typeof(Envelope))!.GetSchema() ?? "public");
#pragma warning disable EF1002 // names, which are no parameters
        await owner.Database.ExecuteSqlRawAsync($"""
            create role {application.Username} login password '{application.Password}';
            revoke all on database {application.Database} from public;
            revoke all on schema public from public;
            grant connect on database {application.Database} to {application.Username};
            grant usage on schema {schema} to {application.Username};
            grant select, insert, update, delete on {outbox}, {inbox} to {application.Username};
            grant select, insert on {deadLetter} to {application.Username};
            grant select, insert, update, delete on {orders}, {progress} to {application.Username};
            """);
#pragma warning restore EF1002
        return application.ConnectionString;
    }

    private static string TableOf<T>(DbContext context)
    {
        var table = context.Model.FindEntityType(typeof(T))!;
        return table.GetSchema() is { } schema ? $"{Quoted(schema)}.{Quoted(table.GetTableName()!)}" : Quoted(table.GetTableName()!);
    }

    // Braces would be placeholders of EF Core.
    private static string Quoted(string name) => $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal).Replace("{", "{{", StringComparison.Ordinal).Replace("}", "}}", StringComparison.Ordinal)}\"";
}
