using MassTransit;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>A database and a transport of a test's own.</summary>
public sealed class Stack : IAsyncDisposable
{
    private readonly string _database;
    private readonly string? _file;

    private Stack(string database, string? file, Uri? broker)
    {
        _database = database;
        _file = file;
        Broker = broker;
    }

    /// <summary>The RabbitMQ virtual host; null: the in-memory transport.</summary>
    public Uri? Broker { get; }

    /// <summary>Further settings of the RabbitMQ transport, such as a serializer.</summary>
    public Action<IRabbitMqBusFactoryConfigurator>? ConfigureRabbitMq { get; set; }

    /// <summary>Whether new applications send past MassTransit's send path, which is their default.</summary>
    public bool SendsDirectly { get; set; } = true;

    /// <summary>Further settings of the transport of an existing application, before its endpoints are configured.</summary>
    public Action<IBusRegistrationContext, IBusFactoryConfigurator>? ConfigureTransport { get; set; }

    /// <summary>Further settings of every context on this stack, such as a larger model.</summary>
    public Action<DbContextOptionsBuilder>? ConfigureDatabase { get; set; }

    /// <summary>How applications on this stack record what they consume.</summary>
    public InboxMode InboxMode { get; init; }

    public static async Task<Stack> PostgreSqlAndRabbitMqAsync(InboxMode mode = InboxMode.First)
        => new(await Servers.PostgresDatabaseAsync("end"), null, await Servers.RabbitMqVirtualHostAsync("end")) { InboxMode = mode };

    /// <summary>On servers that a test may kill.</summary>
    public static Stack Of(string postgres, Uri broker, InboxMode mode = InboxMode.First) => new(postgres, null, broker) { InboxMode = mode };

    public static Stack SqliteInMemory(InboxMode mode = InboxMode.First)
    {
        var file = Path.Combine(Path.GetTempPath(), $"outboxbus-{Guid.NewGuid():N}.db");
        return new Stack($"Data Source={file}", file, null) { InboxMode = mode };
    }

    public static Task<Stack> CreateAsync(StackKind kind, InboxMode mode = InboxMode.First)
        => kind == StackKind.PostgreSqlRabbitMq ? PostgreSqlAndRabbitMqAsync(mode) : Task.FromResult(SqliteInMemory(mode));

    public void UseDatabase(DbContextOptionsBuilder options)
    {
        if (_file is null)
            options.UseNpgsql(_database);
        else
            options.UseSqlite(_database);
        ConfigureDatabase?.Invoke(options);
    }

    public void UseEngine(OutboxStoreConfigurator store)
    {
        if (_file is null)
            store.UsePostgreSql();
        else
            store.UseSqlite();
    }

    public void UseTransport(OutboxBusConfigurator bus)
    {
        if (Broker is null)
            bus.UseInMemory();
        else
            bus.UseRabbitMq(Broker.AbsoluteUri, ConfigureRabbitMq, SendsDirectly);
    }

    public void UseTransport(IBusRegistrationConfigurator bus)
    {
        if (Broker is null)
        {
            bus.UsingInMemory((context, transport) =>
            {
                // Redelivery after a failure needs it; RabbitMQ would need a plugin.
                transport.UseDelayedMessageScheduler();
                ConfigureTransport?.Invoke(context, transport);
                transport.ConfigureEndpoints(context);
            });
            return;
        }

        bus.UsingRabbitMq((context, transport) =>
        {
            transport.Host(Broker);
            ConfigureRabbitMq?.Invoke(transport);
            ConfigureTransport?.Invoke(context, transport);
            transport.ConfigureEndpoints(context);
        });
    }

    public ShopDb Open()
    {
        var options = new DbContextOptionsBuilder<ShopDb>();
        UseDatabase(options);
        return new ShopDb(options.Options);
    }

    public async Task<T> ReadAsync<T>(Func<ShopDb, Task<T>> read)
    {
        await using var db = Open();
        return await read(db);
    }

    /// <summary>Runs a statement as an administrator might, past the model.</summary>
    public async Task ExecuteAsync(string sql)
    {
        await using var db = Open();
        await db.Database.OpenConnectionAsync();
        await using var command = db.Database.GetDbConnection().CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }

    /// <summary>Counts rows that the model may not be able to read.</summary>
    public async Task<long> CountAsync(string table)
    {
        await using var db = Open();
        await db.Database.OpenConnectionAsync();
        await using var command = db.Database.GetDbConnection().CreateCommand();
        command.CommandText = $"select count(*) from {table}";
        return (long)(await command.ExecuteScalarAsync())!;
    }

    public Task<int> EffectsAsync() => ReadAsync(db => db.Effects.CountAsync());

    public Task DrainedAsync() => Eventually.BecomesAsync(() => ReadAsync(db => db.Outbox.CountAsync()), count => count == 0, "the outbox is empty");

    public ValueTask DisposeAsync()
    {
        if (_file is null)
        {
            using var connection = new NpgsqlConnection(_database);
            NpgsqlConnection.ClearPool(connection);
        }
        else
        {
            SqliteConnection.ClearAllPools();
            foreach (var file in Directory.GetFiles(Path.GetDirectoryName(_file)!, Path.GetFileName(_file) + "*"))
                File.Delete(file);
        }

        return ValueTask.CompletedTask;
    }
}

public enum StackKind
{
    PostgreSqlRabbitMq,
    SqliteInMemory,
}
