using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Storage;
using Xunit;

namespace OutboxBus.Conformance.Tests.Engines;

// One engine as the suites see it; a further engine is one more subclass. Shared by the tests of a class, which run one after another.
public abstract class TestDatabase : IAsyncLifetime
{
    private string? _connectionString;

    public abstract string Engine { get; }

    // The application's: it may not change the tables' structure.
    public string ConnectionString => _connectionString ?? throw new InvalidOperationException("The database is created by ReadyAsync.");

    // What the tables are called.
    public virtual OutboxTables Tables => new();

    // The owner's, for tests that create, alter or analyze tables.
    public string OwnerConnectionString { get; private set; } = "";

    // Fresh, empty and never shared; the owner's.
    public abstract Task<string> CreateAsync();

    public abstract void Configure(DbContextOptionsBuilder options, string connectionString);

    public abstract void Choose(OutboxStoreConfigurator store);

    public abstract SqlDialect CreateDialect(OutboxTables tables);

    public abstract DbConnection CreateConnection(string connectionString);

    // An expression for the database's present, read by the dialect's ReadTime.
    public abstract string NowExpression { get; }

    // Everything that makes up the tables, one line per fact, in an order of its own.
    public abstract Task<IReadOnlyList<string>> CatalogAsync(DbConnection connection);

    public void Configure(DbContextOptionsBuilder options) => Configure(options, ConnectionString);

    // Lazy, because only an exception inside a test can skip it.
    public async Task ReadyAsync()
    {
        if (_connectionString is not null)
            return;
        var connectionString = await CreateAsync();
        await using var context = CreateShop(connectionString);
        await context.Database.EnsureCreatedAsync();
        OwnerConnectionString = connectionString;
        _connectionString = await AdmitApplicationAsync(context);
    }

    public async Task ClearAsync()
    {
        await using var context = CreateShop(OwnerConnectionString);
        await context.Set<Envelope>().ExecuteDeleteAsync();
        await context.Set<DeadLetter>().ExecuteDeleteAsync();
        await context.Set<InboxMessage>().ExecuteDeleteAsync();
        await context.Orders.ExecuteDeleteAsync();
        await context.Set<OrderProgress>().ExecuteDeleteAsync();
    }

    public ShopDb CreateShop(string? connectionString = null) => new(OptionsOf<ShopDb>(connectionString ?? ConnectionString));

    public DbContextOptions<T> OptionsOf<T>(string connectionString)
        where T : DbContext
    {
        var options = new DbContextOptionsBuilder<T>();
        Configure(options, connectionString);
        return options.Options;
    }

    public async Task<DbConnection> OpenAsync(string? connectionString = null)
    {
        var connection = CreateConnection(connectionString ?? ConnectionString);
        await connection.OpenAsync();
        return connection;
    }

    public async Task<DateTime> NowAsync()
    {
        await using var connection = await OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = $"select {NowExpression}";
        await using var reader = await command.ExecuteReaderAsync();
        await reader.ReadAsync();
        return CreateDialect(Tables).ReadTime(reader, 0);
    }

    internal OutboxStore CreateStore(OutboxTables? tables = null, string? connectionString = null) => new(new Store(this, tables ?? Tables, connectionString));

    public Task InitializeAsync() => Task.CompletedTask;

    public virtual Task DisposeAsync() => Task.CompletedTask;

    // Where the engine has rights: gives the application those it needs, and no others.
    protected virtual Task<string> AdmitApplicationAsync(ShopDb owner) => Task.FromResult(owner.Database.GetConnectionString()!);

    protected static async Task<List<string>> LinesAsync(DbConnection connection, string query)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = query;
        await using var reader = await command.ExecuteReaderAsync();
        var lines = new List<string>();
        while (await reader.ReadAsync())
            lines.Add(string.Join(" | ", Enumerable.Range(0, reader.FieldCount).Select(field => $"{reader.GetName(field)}={reader.GetValue(field)}")));
        return lines;
    }

    private sealed class Store(TestDatabase database, OutboxTables tables, string? connectionString) : IOutboxDatabase
    {
        public string Key => nameof(ShopDb);

        public SqlDialect Dialect { get; } = database.CreateDialect(tables);

        public async Task<IOutboxConnection> OpenAsync(CancellationToken cancellationToken) => new Open(await database.OpenAsync(connectionString));
    }

    private sealed class Open(DbConnection connection) : IOutboxConnection
    {
        public DbConnection Connection => connection;

        public ValueTask DisposeAsync() => connection.DisposeAsync();
    }
}
