using OutboxBus.TestServers.Finding;

namespace OutboxBus.TestServers;

// Real servers for tests: those named by environment variables, else local binaries, else containers, else the test is skipped, or
// fails where OUTBOXBUS_REQUIRE names the server. The test must be a [SkippableFact] or [SkippableTheory]; a [Fact] would fail.
public static class Servers
{
    private const string Postgres = "postgres";
    private const string RabbitMq = "rabbitmq";

    private static readonly string? s_require = Environment.GetEnvironmentVariable("OUTBOXBUS_REQUIRE");

    private static readonly ServerSearch<string> s_postgres = new(
        Postgres, s_require,
        ServerSources.PostgresVariableSource(Environment.GetEnvironmentVariable), ServerSources.PostgresBinaries(), ServerSources.PostgresContainer());

    private static readonly ServerSearch<RabbitMqEndpoint> s_rabbitMq = new(
        RabbitMq, s_require,
        ServerSources.RabbitMqVariableSource(Environment.GetEnvironmentVariable), ServerSources.RabbitMqBinaries(), ServerSources.RabbitMqContainer());

    // The connection string of a fresh database on the shared server.
    public static async Task<string> PostgresDatabaseAsync(string prefix) =>
        await PostgresServer.CreateDatabaseAsync(await s_postgres.FindAsync(), prefix);

    // The URI of a fresh virtual host on the shared broker.
    public static async Task<Uri> RabbitMqVirtualHostAsync(string prefix) =>
        await (await s_rabbitMq.FindAsync()).CreateVirtualHostAsync(FreshName.From(prefix));

    // A server of the test's own, which it may kill.
    public static Task<PostgresServer> PrivatePostgresAsync(params string[] languages) => PrivateAsync(Postgres, () => PostgresServer.StartAsync(languages));

    public static Task<RabbitMqServer> PrivateRabbitMqAsync() => PrivateAsync(RabbitMq, RabbitMqServer.StartAsync);

    internal static Task<(string? Server, string Reason)> TryFindPostgresAsync() => s_postgres.TryFindAsync();

    internal static Task<(RabbitMqEndpoint? Server, string Reason)> TryFindRabbitMqAsync() => s_rabbitMq.TryFindAsync();

    private static Task<TServer> PrivateAsync<TServer>(string server, Func<Task<TServer>> start) =>
        new ServerSearch<TServer>(server, s_require, new ServerSource<TServer>("Local binaries, the only ones that can be killed", start)).FindAsync();
}
