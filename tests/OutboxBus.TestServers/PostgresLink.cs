using Npgsql;

namespace OutboxBus.TestServers;

// The way to a PostgreSQL server, which a test can cut.
public sealed class PostgresLink : IAsyncDisposable
{
    public PostgresLink(string connectionString)
    {
        var builder = new NpgsqlConnectionStringBuilder(connectionString);
        Proxy = new TcpProxy(builder.Host!, builder.Port);
        (builder.Host, builder.Port) = ("127.0.0.1", Proxy.Port);
        ConnectionString = builder.ConnectionString;
    }

    public TcpProxy Proxy { get; }

    public string ConnectionString { get; }

    // The connection of the next commit breaks, before the server gets it or when it answers.
    // With its end, or it would be found in READ COMMITTED too.
    public void LoseNextCommit(Loss loss) => Proxy.LoseNext("COMMIT\0", loss);

    public async ValueTask DisposeAsync()
    {
        await using (var connection = new NpgsqlConnection(ConnectionString))
            NpgsqlConnection.ClearPool(connection);
        await Proxy.DisposeAsync();
    }
}
