using System.Data.Common;
using System.Transactions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EntityFrameworkCore.Publishing;
using OutboxBus.Storage;

namespace OutboxBus.EntityFrameworkCore.Storage;

/// <summary>
/// The database of a DbContext. Connections come from the context itself, so that data sources, passwords and tokens
/// work as the application configured them.
/// </summary>
internal sealed class DbContextDatabase<TDbContext> : IOutboxDatabase
    where TDbContext : DbContext
{
    private readonly IServiceScopeFactory _scopes;
    private readonly Lazy<SqlDialect> _dialect;

    public DbContextDatabase(IServiceScopeFactory scopes, Func<OutboxTables, SqlDialect> dialect)
    {
        _scopes = scopes;
        _dialect = new Lazy<SqlDialect>(() => CreateDialect(dialect), LazyThreadSafetyMode.PublicationOnly);
    }

    public string Key => typeof(TDbContext).Name;

    public SqlDialect Dialect => _dialect.Value;

    public async Task<IOutboxConnection> OpenAsync(CancellationToken cancellationToken)
    {
        var scope = _scopes.CreateAsyncScope();
        try
        {
            var database = Resolve(scope.ServiceProvider).Database;
            // Whoever wakes delivery may do so inside a TransactionScope of its own.
            using (new TransactionScope(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled))
                // Past the application's retrying execution strategy, which would try for a minute: delivery has pauses of its own,
                // and reports an outage itself, once.
                await database.GetService<IRelationalConnection>().OpenAsync(cancellationToken, errorsExpected: true).ConfigureAwait(false);
            return new ScopedConnection(scope, database.GetDbConnection());
        }
        catch
        {
            await scope.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private static TDbContext Resolve(IServiceProvider services) => services.GetService<TDbContext>() ?? throw new OutboxBusException(
        $"{typeof(TDbContext).Name}, whose database is to hold the outbox, is not registered. Remedy: services.AddDbContext<{typeof(TDbContext).Name}>(...).");

    private SqlDialect CreateDialect(Func<OutboxTables, SqlDialect> dialect)
    {
        using var scope = _scopes.CreateScope();
        var context = Resolve(scope.ServiceProvider);
        var outbox = context.Model.FindEntityType(typeof(Envelope)) ?? throw new OutboxBusException(
            $"The model of {Key} has no outbox tables. Remedy: call modelBuilder.AddOutboxBus(Database) in OnModelCreating and add a migration.");
        var created = dialect(new OutboxTables(
            outbox.GetSchema(),
            outbox.GetTableName()!,
            context.Model.FindEntityType(typeof(DeadLetter))!.GetTableName()!,
            context.Model.FindEntityType(typeof(InboxMessage))!.GetTableName()!));
        if (created.EntityFrameworkProvider != context.Database.ProviderName)
        {
            throw new OutboxBusException(
                $"{Key} uses the EF Core provider {context.Database.ProviderName}, but its outbox was configured for {created.Engine} ({created.EntityFrameworkProvider}). "
                + "Remedy: choose the matching Use... method in AddOutboxBus.");
        }

        if (OutboxInterceptor.Of(context) is null)
        {
            throw new OutboxBusException(
                $"{Key} runs without the interceptor of OutboxBus, so its SaveChanges would not save messages. "
                + $"Remedy: register it with AddDbContext, AddDbContextPool or AddDbContextFactory, and let it take the DbContextOptions<{Key}> of the container.");
        }

        return created;
    }

    private sealed class ScopedConnection(AsyncServiceScope scope, DbConnection connection) : IOutboxConnection
    {
        public DbConnection Connection => connection;

        public ValueTask DisposeAsync() => scope.DisposeAsync();
    }
}
