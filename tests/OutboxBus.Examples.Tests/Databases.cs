using Npgsql;

namespace OutboxBus.Examples.Tests;

internal static class Databases
{
    public static async Task<List<string>> SchemasAsync(string postgres)
    {
        await using var source = NpgsqlDataSource.Create(postgres);
        await using var command = source.CreateCommand("select nspname from pg_namespace where nspname not like 'pg\\_%' and nspname <> 'information_schema'");
        await using var reader = await command.ExecuteReaderAsync();
        var schemas = new List<string>();
        while (await reader.ReadAsync())
            schemas.Add(reader.GetString(0));
        return schemas;
    }

    public static async Task ExecuteAsync(string postgres, string statement)
    {
        await using var source = NpgsqlDataSource.Create(postgres);
        await using var command = source.CreateCommand(statement);
        await command.ExecuteNonQueryAsync();
    }
}
