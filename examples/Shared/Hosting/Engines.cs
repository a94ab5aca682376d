using Microsoft.EntityFrameworkCore;
using Npgsql;
using OutboxBus;
using OutboxBus.MassTransit;

namespace Examples.Hosting;

/// <summary>Which database and which broker: the only place where they differ.</summary>
/// <param name="SqliteFile">The file of the SQLite database, when there is no PostgreSQL.</param>
/// <param name="Postgres">The connection string of a PostgreSQL database; null: SQLite.</param>
/// <param name="Schema">The example's own schema in that database.</param>
/// <param name="RabbitMq">The URI of a RabbitMQ virtual host; null: MassTransit's in-memory transport.</param>
public sealed record Engines(string SqliteFile, string? Postgres, string Schema, string? RabbitMq)
{
    public string Description => $"{(Postgres is null ? "SQLite" : "PostgreSQL")} + {(RabbitMq is null ? "in-memory transport" : "RabbitMQ")}";

    public string Place => Postgres is null ? $"file {SqliteFile}" : $"schema {Schema}";

    public void UseDatabase(DbContextOptionsBuilder options)
    {
        if (Postgres is null)
            options.UseSqlite($"Data Source={SqliteFile}");
        else
            options.UseNpgsql(PostgresWithSchema);
    }

    public void UseStore(OutboxStoreConfigurator store)
    {
        if (Postgres is null)
            store.UseSqlite();
        else
            store.UsePostgreSql();
    }

    public void UseTransport(OutboxBusConfigurator bus)
    {
        if (RabbitMq is null)
            bus.UseInMemory();
        else
            bus.UseRabbitMq(RabbitMq);
    }

    /// <summary>The options of a context without a host around it.</summary>
    public DbContextOptions<TDb> OptionsOf<TDb>()
        where TDb : DbContext
    {
        var options = new DbContextOptionsBuilder<TDb>();
        UseDatabase(options);
        return options.Options;
    }

    // With the search path the model needs no schema, and no statement can touch a table that is not the example's.
    private string PostgresWithSchema => new NpgsqlConnectionStringBuilder(Postgres) { SearchPath = Schema }.ConnectionString;
}
