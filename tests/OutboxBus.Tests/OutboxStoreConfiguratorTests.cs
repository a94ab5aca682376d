using FluentAssertions;
using OutboxBus.Sqlite;
using Xunit;

namespace OutboxBus.Tests;

public sealed class OutboxStoreConfiguratorTests
{
    [Fact]
    public void Second_engine_is_refused()
    {
        var store = new OutboxStoreConfigurator().UseDialect(tables => new SqliteDialect(tables));

        store.Invoking(chosen => chosen.UseDialect(tables => new SqliteDialect(tables))).Should().Throw<OutboxBusException>().WithMessage("Two database engines*");
    }

    [Fact]
    public void Every_part_is_tuned_and_later_calls_win()
    {
        var store = new OutboxStoreConfigurator()
            .Publishing(publishing => publishing.MaxBodyBytes = 1)
            .Delivery(delivery => delivery.MaxAttempts = 2)
            .Delivery(delivery => delivery.MaxAttempts = 3)
            .Inbox(inbox => inbox.PurgeBatch = 4)
            .Health(health => health.MaxPending = 5);

        var options = new OutboxBusOptions();
        foreach (var configure in store.Options)
            configure(options);

        options.Publishing.MaxBodyBytes.Should().Be(1);
        options.Delivery.MaxAttempts.Should().Be(3);
        options.Inbox.PurgeBatch.Should().Be(4);
        options.Health.MaxPending.Should().Be(5);
    }
}
