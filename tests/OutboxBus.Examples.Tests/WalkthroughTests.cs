using FluentAssertions;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class OrdersWalkthroughTests() : WalkthroughTests("Orders", "6 of 6 steps passed, 31 checks");

public sealed class SagasWalkthroughTests() : WalkthroughTests("Sagas", "9 of 9 steps passed, 44 checks");

public abstract class WalkthroughTests(string example, string allPassed)
{
    [Fact]
    public async Task Every_step_passes_on_SQLite_in_memory() => Passes(await ExampleProcess.RunAsync(example), "SQLite + in-memory transport");

    [SkippableFact]
    public async Task Every_step_passes_on_PostgreSql_in_memory()
    {
        var postgres = await Servers.PostgresDatabaseAsync("example");
        Passes(await ExampleProcess.RunAsync(example, "--postgres", postgres), "PostgreSQL + in-memory transport");
    }

    [SkippableFact]
    public async Task Every_step_passes_on_SQLite_and_RabbitMq()
    {
        var rabbitMq = await Servers.RabbitMqVirtualHostAsync("example");
        Passes(await ExampleProcess.RunAsync(example, "--rabbitmq", rabbitMq.AbsoluteUri), "SQLite + RabbitMQ");
    }

    // Twice, as a second run must find its way among the queues of the first, and leaves the database as it was.
    [SkippableFact]
    public async Task Every_step_passes_on_PostgreSql_and_RabbitMq_again_and_again()
    {
        var postgres = await Servers.PostgresDatabaseAsync("example");
        var rabbitMq = await Servers.RabbitMqVirtualHostAsync("example");
        for (var run = 0; run < 2; run++)
        {
            Passes(await ExampleProcess.RunAsync(example, "--postgres", postgres, "--rabbitmq", rabbitMq.AbsoluteUri), "PostgreSQL + RabbitMQ");
            (await Databases.SchemasAsync(postgres)).Should().Equal("public");
        }
    }

    private void Passes((int ExitCode, string Printed) run, string engines)
    {
        run.ExitCode.Should().Be(0, run.Printed);
        run.Printed.Should().Contain(engines).And.Contain(allPassed).And.NotContain("   at ").And.NotContain("FAILED");
    }
}
