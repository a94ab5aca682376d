using Npgsql;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Measuring;

// A PostgreSQL and a RabbitMQ of this run's own.
public sealed class BenchmarkServers : IAsyncDisposable
{
    // As durable as it comes; memory as a small server would have it.
    private static readonly string[] s_settings = ["shared_buffers=1GB", "max_wal_size=4GB", "shared_preload_libraries=pg_stat_statements"];

    private BenchmarkServers(PostgresServer postgres, RabbitMqServer rabbitMq)
    {
        Postgres = postgres;
        RabbitMq = rabbitMq;
    }

    public PostgresServer Postgres { get; }

    public RabbitMqServer RabbitMq { get; }

    public static async Task<BenchmarkServers> StartAsync()
    {
        var postgres = PostgresServer.StartWithAsync(s_settings);
        var rabbitMq = RabbitMqServer.StartAsync();
        var servers = new BenchmarkServers(await postgres, await rabbitMq);
        await using var database = NpgsqlDataSource.Create(servers.Postgres.ConnectionString);
        await using var command = database.CreateCommand("create extension pg_stat_statements");
        await command.ExecuteNonQueryAsync();
        return servers;
    }

    // The settings that the README advises; every contestant has them.
    public async Task<BenchmarkStage> CreateStageAsync(string name) => new(
        new NpgsqlConnectionStringBuilder(await Postgres.CreateDatabaseAsync(name))
        {
            MaxAutoPrepare = 100,
            AutoPrepareMinUsages = 2,
            NoResetOnClose = true,
        }.ConnectionString,
        await RabbitMq.CreateVirtualHostAsync($"{name}-{Guid.CreateVersion7():N}"));

    public async ValueTask DisposeAsync()
    {
        await RabbitMq.DisposeAsync();
        await Postgres.DisposeAsync();
    }
}
