using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;

namespace Examples.Hosting;

/// <summary>
/// Creates and drops an example's tables. A real application would use EF Core migrations; the example brings its
/// tables along so that it runs on any database it is shown, in a file or a schema of its own.
/// </summary>
public static class ExampleSchema
{
    /// <summary>Creates the tables, and the rows of the model, unless they are there.</summary>
    public static async Task CreateAsync(Engines engines, DbContext db)
    {
        if (engines.Postgres is null)
        {
            await db.Database.EnsureCreatedAsync();
            return;
        }

        await using var source = NpgsqlDataSource.Create(engines.Postgres);
        await ExecuteAsync(source, $"create schema if not exists {Quote(engines.Schema)}");
        // Not EnsureCreated, which creates nothing in a database that has any other table.
        await using var exists = source.CreateCommand("select exists (select from pg_tables where schemaname = $1)");
        exists.Parameters.Add(new NpgsqlParameter { Value = engines.Schema });
        if (!(bool)(await exists.ExecuteScalarAsync())!)
            await db.GetService<IRelationalDatabaseCreator>().CreateTablesAsync();
    }

    /// <summary>Drops the file, or the schema with everything in it. Only for names this process has made up.</summary>
    public static async Task DropAsync(Engines engines)
    {
        if (engines.Postgres is null)
        {
            SqliteConnection.ClearAllPools();
            foreach (var suffix in (string[])["", "-wal", "-shm"])
                File.Delete(engines.SqliteFile + suffix);
            return;
        }

        await using var source = NpgsqlDataSource.Create(engines.Postgres);
        await ExecuteAsync(source, $"drop schema if exists {Quote(engines.Schema)} cascade");
    }

    private static async Task ExecuteAsync(NpgsqlDataSource source, string statement)
    {
        await using var command = source.CreateCommand(statement);
        await command.ExecuteNonQueryAsync();
    }

    private static string Quote(string identifier) => $"\"{identifier.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
