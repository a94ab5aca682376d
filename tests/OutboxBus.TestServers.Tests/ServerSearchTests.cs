using FluentAssertions;
using OutboxBus.TestServers.Finding;
using Xunit;

namespace OutboxBus.TestServers.Tests;

public sealed class ServerSearchTests
{
    [Fact]
    public async Task The_first_source_that_works_is_used_once()
    {
        var opened = 0;
        var search = new ServerSearch<string>("postgres", null, Fails("One", "absent"), new("Two", () => Task.FromResult($"{++opened}")), Fails("Three", "absent"));

        (await search.FindAsync()).Should().Be("1");
        (await search.FindAsync()).Should().Be("1");
    }

    [Fact]
    public async Task The_reason_for_skipping_names_everything_tried()
    {
        var search = new ServerSearch<string>(
            "postgres", "rabbitmq", ServerSources.PostgresVariableSource(_ => null), Fails("Local binaries", "no initdb"), Fails("Docker", "no socket"));

        var skip = await FluentActions.Awaiting(search.FindAsync).Should().ThrowExactlyAsync<SkipException>();

        skip.Which.Message.Should().Be(
            "No postgres server. Environment: OUTBOXBUS_TEST_POSTGRES is not set. Local binaries: no initdb. Docker: no socket.");
    }

    [Theory]
    [InlineData("postgres")]
    [InlineData("rabbitmq, Postgres")]
    public async Task A_required_server_that_is_missing_is_a_failure(string require)
    {
        var search = new ServerSearch<string>("postgres", require, Fails("Local binaries", "no initdb"));

        var failure = await FluentActions.Awaiting(search.FindAsync).Should().ThrowExactlyAsync<InvalidOperationException>();

        failure.Which.Message.Should().Contain("Local binaries: no initdb").And.Contain("OUTBOXBUS_REQUIRE");
    }

    private static ServerSource<string> Fails(string name, string reason) => new(name, () => throw new InvalidOperationException(reason));
}
