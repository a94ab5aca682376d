using System.Data.Common;
using System.Text.RegularExpressions;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Sqlite;
using OutboxBus.Storage;

namespace OutboxBus.Conformance.Tests.Engines;

public partial class SqliteDatabase : TestDatabase
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("outboxbus-");
    private int _databases;

    public override string Engine => "Sqlite";

    public override string NowExpression => "cast(unixepoch('subsec') * 1000 as integer)";

    public override Task<string> CreateAsync()
        => Task.FromResult($"Data Source={Path.Combine(_folder.FullName, $"{Interlocked.Increment(ref _databases)}.db")}");

    public override void Configure(DbContextOptionsBuilder options, string connectionString) => options.UseSqlite(connectionString);

    public override void Choose(OutboxStoreConfigurator store) => store.UseSqlite();

    public override SqlDialect CreateDialect(OutboxTables tables) => new SqliteDialect(tables);

    public override DbConnection CreateConnection(string connectionString) => new SqliteConnection(connectionString);

    public override async Task<IReadOnlyList<string>> CatalogAsync(DbConnection connection)
    {
        var columns = await LinesAsync(connection, """
            select tables.name as "table", columns.name as "column", upper(columns.type) as type, columns."notnull" as required, columns.dflt_value as "default", columns.pk as key
            from sqlite_schema as tables, pragma_table_xinfo(tables.name) as columns
            where tables.type = 'table' and tables.name <> 'sqlite_sequence'
            """);
        var indexes = await LinesAsync(connection, """
            select indexes.name as "index", list."unique", list.origin, list.partial, columns.seqno, columns.name as "column", columns.desc,
                case when list.partial then upper(substr(indexes.sql, instr(upper(indexes.sql), ' WHERE '))) end as filter
            from sqlite_schema as indexes, pragma_index_list(indexes.tbl_name) as list, pragma_index_xinfo(indexes.name) as columns
            where indexes.type = 'index' and list.name = indexes.name and columns.key = 1
            """);
        var counted = await LinesAsync(connection, "select name as counted from sqlite_schema where type = 'table' and upper(sql) like '%PRIMARY KEY AUTOINCREMENT%'");
        var keys = await LinesAsync(connection, "select name as \"table\", upper(sql) as sql from sqlite_schema where type = 'table'");
        return
        [
            .. columns.Select(line => Parentheses().Replace(line, "")).Order(StringComparer.Ordinal),
            .. indexes.Order(StringComparer.Ordinal),
            .. counted.Order(StringComparer.Ordinal),
            .. keys.SelectMany(line => ConstraintName().Matches(line)).Select(match => match.Value).Order(StringComparer.Ordinal),
        ];
    }

    public override Task DisposeAsync()
    {
        SqliteConnection.ClearAllPools();
        _folder.Delete(recursive: true);
        return Task.CompletedTask;
    }

    // SQLite keeps a default as it was written; EF Core adds a pair of parentheses.
    [GeneratedRegex(@"(?<=default=)\(*(?=cast)|(?<=integer\)( \+ \d+)?)\)*(?= \| key)")]
    private static partial Regex Parentheses();

    [GeneratedRegex("CONSTRAINT \"[^\"]+\"")]
    private static partial Regex ConstraintName();
}
