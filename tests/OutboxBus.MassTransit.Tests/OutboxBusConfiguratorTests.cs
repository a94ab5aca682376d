using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Sqlite;
using Xunit;

namespace OutboxBus.MassTransit.Tests;

public sealed class OutboxBusConfiguratorTests
{
    [Fact]
    public void Missing_database_and_transport_are_reported_together()
        => Refused(_ => { }).Should().Contain("no database was chosen").And.Contain("UseEntityFrameworkCore").And.Contain("no transport was chosen").And.Contain("UseInMemory");

    [Fact]
    public void Missing_transport_is_reported_alone()
        => Refused(bus => bus.UseEntityFrameworkCore<TestDb>(UseSqlite)).Should().Contain("no transport").And.NotContain("no database");

    [Fact]
    public void Missing_engine_is_reported_with_the_context()
        => Refused(bus => bus.UseInMemory().UseEntityFrameworkCore<TestDb>(_ => { })).Should().Contain("No database engine").And.Contain("TestDb").And.Contain("UsePostgreSql");

    [Fact]
    public void Second_database_is_refused()
        => Refused(bus => bus.UseEntityFrameworkCore<TestDb>(UseSqlite).UseEntityFrameworkCore<TestDb>(UseSqlite)).Should().Contain("called twice");

    [Fact]
    public void Second_transport_is_refused() => Refused(bus => bus.UseInMemory().UseInMemory()).Should().Contain("Two transports");

    [Fact]
    public void Second_outbox_on_one_bus_is_refused()
    {
        var add = () => new ServiceCollection().AddMassTransit(bus => bus.AddOutboxBus<TestDb>(UseSqlite).AddOutboxBus<TestDb>(UseSqlite));

        add.Should().Throw<OutboxBusException>().WithMessage("*called twice*");
    }

    [Fact]
    public void Class_that_handles_nothing_is_refused() => Refused(bus => bus.AddHandler<TestDb>()).Should().Contain("TestDb implements no IMessageHandler<T>");

    [Fact]
    public void Assembly_without_handlers_is_refused() => Refused(bus => bus.AddHandlers(typeof(SqliteDialect).Assembly)).Should().Contain("OutboxBus.Sqlite has no class");

    [Fact]
    public void Wrong_options_of_a_handler_are_reported_together()
        => Refused(bus => bus.AddHandler<Handled>(options =>
        {
            options.EndpointName = " ";
            options.ConcurrencyLimit = 0;
            options.PrefetchCount = -1;
            options.RetryDelays = [TimeSpan.FromTicks(-1)];
        })).Should().Contain("Handled").And.Contain("EndpointName is blank").And.Contain("ConcurrencyLimit is 0").And.Contain("PrefetchCount is -1").And.Contain("RetryDelays has a negative time");

    [Fact]
    public void Least_values_of_a_handler_are_accepted()
    {
        var add = () => Add(bus => bus.UseInMemory().UseEntityFrameworkCore<TestDb>(UseSqlite).AddHandler<Handled>(options =>
        {
            options.ConcurrencyLimit = 1;
            options.PrefetchCount = 1;
            options.RetryDelays = [];
        }));

        add.Should().NotThrow();
    }

    [Fact]
    public void Options_given_anywhere_are_validated_together()
    {
        using var services = Add(bus => bus.UseInMemory()
            .UseEntityFrameworkCore<TestDb>(store => store.UseDialect(tables => new SqliteDialect(tables)).Inbox(inbox => inbox.PurgeBatch = 0))
            .Delivery(delivery => delivery.MaxAttempts = 0)).BuildServiceProvider();

        services.Invoking(provider => provider.GetRequiredService<OutboxBusOptions>()).Should().Throw<Exception>()
            .Which.Message.Should().Contain("Inbox.PurgeBatch is 0").And.Contain("Delivery.MaxAttempts is 0");
    }

    private static string Refused(Action<OutboxBusConfigurator> configure)
        => FluentActions.Invoking(() => Add(configure)).Should().Throw<OutboxBusException>().Which.Message;

    private static IServiceCollection Add(Action<OutboxBusConfigurator> configure) => new ServiceCollection().AddOutboxBus(configure);

    private static void UseSqlite(OutboxStoreConfigurator store) => store.UseDialect(tables => new SqliteDialect(tables));

    private sealed class TestDb(DbContextOptions<TestDb> options) : DbContext(options);

    private sealed class Handled : IMessageHandler<string>
    {
        public Task Handle(string message, IMessageContext context, CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
