using FluentAssertions;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class WalkthroughTests
{
    private const string AllPassed = "6 of 6 steps passed, 31 checks";

    [Fact]
    public async Task Every_step_passes_on_SQLite_in_memory() => Passes(await OrdersProcess.RunAsync(), "SQLite + in-memory transport");

    [SkippableFact]
    public async Task Every_step_passes_on_PostgreSql_in_memory()
    {
        var postgres = await Servers.PostgresDatabaseAsync("example");
        Passes(await OrdersProcess.RunAsync("--postgres", postgres), "PostgreSQL + in-memory transport");
    }

    [SkippableFact]
    public async Task Every_step_passes_on_SQLite_and_RabbitMq()
    {
        var rabbitMq = await Servers.RabbitMqVirtualHostAsync("example");
        Passes(await OrdersProcess.RunAsync("--rabbitmq", rabbitMq.AbsoluteUri), "SQLite + RabbitMQ");
    }

    // Twice, as a second run must find its way among the queues of the first, and leaves the database as it was.
    [SkippableFact]
    public async Task Every_step_passes_on_PostgreSql_and_RabbitMq_again_and_again()
    {
        var postgres = await Servers.PostgresDatabaseAsync("example");
        var rabbitMq = await Servers.RabbitMqVirtualHostAsync("example");
        for (var run = 0; run < 2; run++)
        {
            Passes(await OrdersProcess.RunAsync("--postgres", postgres, "--rabbitmq", rabbitMq.AbsoluteUri), "PostgreSQL + RabbitMQ");
            (await Databases.SchemasAsync(postgres)).Should().Equal("public");
        }
    }

    // A check that cannot fail is worth nothing: each accident is made to go wrong once.
    [Theory]
    [InlineData("placed", "Ann's order is delivered, reserved and confirmed")]
    [InlineData("rollback", "nothing is left of Cora's order")]
    [InlineData("duplicate", "both subscribers' inboxes recognise it")]
    [InlineData("outage", "delivery keeps probing the broker")]
    [InlineData("kill", "that process was killed")]
    public async Task A_step_whose_outcome_is_not_the_promised_one_fails_the_walkthrough(string step, string brokenPromise)
    {
        var (exitCode, printed) = await OrdersProcess.RunAsync("--sabotage", step, "--patience", "4");

        exitCode.Should().Be(1, printed);
        printed.Should().Contain($"FAILED: {brokenPromise}").And.NotContain("6 of 6 steps");
    }

    [Theory]
    [InlineData("--nonsense", "Unrecognized command or argument '--nonsense'.")]
    [InlineData("--postgres=nonsense", "--postgres is no connection string")]
    [InlineData("--rabbitmq=http://localhost", "--rabbitmq is no URI such as \"amqp://")]
    [InlineData("--sqlite=shop.db", "need --serve")]
    public async Task Wrong_switches_end_with_2_and_a_reason(string argument, string reason)
    {
        var (exitCode, printed) = await OrdersProcess.RunAsync(argument);

        exitCode.Should().Be(2, printed);
        printed.Should().Contain(reason).And.NotContain("   at ");
    }

    [Fact]
    public async Task Help_explains_the_switches_but_not_the_hidden_ones()
    {
        var (exitCode, printed) = await OrdersProcess.RunAsync("--help");

        exitCode.Should().Be(0);
        printed.Should().ContainAll("--serve", "--postgres", "--rabbitmq").And.NotContain("--sabotage");
    }

    private static void Passes((int ExitCode, string Printed) run, string engines)
    {
        run.ExitCode.Should().Be(0, run.Printed);
        run.Printed.Should().Contain(engines).And.Contain(AllPassed).And.NotContain("   at ").And.NotContain("FAILED");
    }
}
