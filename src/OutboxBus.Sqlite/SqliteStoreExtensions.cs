using OutboxBus.Sqlite;

namespace OutboxBus;

/// <summary>Chooses SQLite for an outbox.</summary>
public static class SqliteStoreExtensions
{
    /// <summary>The outbox is in a SQLite database, reached through Microsoft's EF Core provider.</summary>
    public static OutboxStoreConfigurator UseSqlite(this OutboxStoreConfigurator store)
    {
        ArgumentNullException.ThrowIfNull(store);
        return store.UseDialect(tables => new SqliteDialect(tables));
    }
}
