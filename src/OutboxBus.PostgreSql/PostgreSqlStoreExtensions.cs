using OutboxBus.PostgreSql;

namespace OutboxBus;

/// <summary>Chooses PostgreSQL for an outbox.</summary>
public static class PostgreSqlStoreExtensions
{
    /// <summary>The outbox is in a PostgreSQL database, version 13 or later, reached through Npgsql's EF Core provider.</summary>
    public static OutboxStoreConfigurator UsePostgreSql(this OutboxStoreConfigurator store)
    {
        ArgumentNullException.ThrowIfNull(store);
        return store.UseDialect(tables => new PostgreSqlDialect(tables));
    }
}
