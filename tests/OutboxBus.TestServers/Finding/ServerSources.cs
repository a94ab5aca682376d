using DotNet.Testcontainers.Builders;
using Testcontainers.PostgreSql;
using Testcontainers.RabbitMq;

namespace OutboxBus.TestServers.Finding;

internal static class ServerSources
{
    public const string PostgresVariable = "OUTBOXBUS_TEST_POSTGRES";
    public const string RabbitMqVariable = "OUTBOXBUS_TEST_RABBITMQ";
    public const string RabbitMqManagementVariable = "OUTBOXBUS_TEST_RABBITMQ_MANAGEMENT";

    private const int ManagementPort = 15672;

    // Asking a Docker that is not there takes half a second: once per process is enough.
    private static string? s_dockerUnavailable;

    public static ServerSource<string> PostgresVariableSource(Func<string, string?> environment) =>
        new("Environment", () => Task.FromResult(Named(environment, PostgresVariable)));

    public static ServerSource<string> PostgresBinaries() =>
        new("Local binaries", async () => (await PostgresServer.StartAsync()).ConnectionString);

    public static ServerSource<string> PostgresContainer() =>
        new("Docker", () => InDockerAsync(async () =>
        {
            var container = new PostgreSqlBuilder("postgres:15").Build();
            await container.StartAsync();
            return container.GetConnectionString();
        }));

    public static ServerSource<RabbitMqEndpoint> RabbitMqVariableSource(Func<string, string?> environment) =>
        new("Environment", () =>
        {
            var amqp = new Uri(Named(environment, RabbitMqVariable));
            var management = environment(RabbitMqManagementVariable) is { Length: > 0 } named
                ? new Uri(named)
                : new UriBuilder("http", amqp.Host, ManagementPort).Uri;
            return Task.FromResult(new RabbitMqEndpoint(amqp, management));
        });

    public static ServerSource<RabbitMqEndpoint> RabbitMqBinaries() =>
        new("Local binaries", async () => (await RabbitMqServer.StartAsync()).Endpoint);

    public static ServerSource<RabbitMqEndpoint> RabbitMqContainer() =>
        new("Docker", () => InDockerAsync(async () =>
        {
            var container = new RabbitMqBuilder("rabbitmq:3.13-management").WithPortBinding(ManagementPort, assignRandomHostPort: true).Build();
            await container.StartAsync();
            return new RabbitMqEndpoint(
                new Uri(container.GetConnectionString()),
                new UriBuilder("http", container.Hostname, container.GetMappedPublicPort(ManagementPort)).Uri);
        }));

    private static string Named(Func<string, string?> environment, string variable) =>
        environment(variable) is { Length: > 0 } value ? value : throw new InvalidOperationException($"{variable} is not set");

    private static async Task<T> InDockerAsync<T>(Func<Task<T>> start)
    {
        if (s_dockerUnavailable is { } reason)
            throw new InvalidOperationException(reason);
        try
        {
            return await start();
        }
        catch (DockerUnavailableException e)
        {
            s_dockerUnavailable = e.Message.Split('\n')[0].Trim();
            throw new InvalidOperationException(s_dockerUnavailable, e);
        }
    }
}
