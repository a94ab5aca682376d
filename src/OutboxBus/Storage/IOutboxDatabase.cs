using System.Data.Common;

namespace OutboxBus.Storage;

/// <summary>A database that holds an outbox, as delivery and purge reach it: on connections of their own.</summary>
public interface IOutboxDatabase
{
    /// <summary>Names the database in logs and metrics; has no secrets.</summary>
    string Key { get; }

    /// <summary>The dialect for the tables in this database.</summary>
    /// <exception cref="OutboxBusException">The dialect chosen does not fit the database's provider, or the model has no outbox tables.</exception>
    SqlDialect Dialect { get; }

    /// <summary>Opens a connection outside any ambient transaction.</summary>
    Task<IOutboxConnection> OpenAsync(CancellationToken cancellationToken);
}

/// <summary>An open connection; disposing it gives it back.</summary>
public interface IOutboxConnection : IAsyncDisposable
{
    /// <summary>The connection.</summary>
    DbConnection Connection { get; }
}
