using FluentAssertions;
using Microsoft.Extensions.Options;
using OutboxBus.EndToEnd.Tests.Delivery;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Starting;

public sealed class AtStart
{
    private const int SchemaNotChecked = 404;

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task Missing_tables_stop_the_host_with_the_remedy(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        var (host, _) = App.CreateHost(stack);
        using (host)
        {
            (await host.Awaiting(self => self.StartAsync()).Should().ThrowAsync<OutboxBusException>())
                .WithMessage("*tables are missing*ShopDb*dotnet ef migrations add*");
        }
    }

    [Fact]
    public async Task Invalid_options_stop_the_host_and_are_reported_all_at_once()
    {
        await using var stack = Stack.SqliteInMemory();
        await using (var db = stack.Open())
            await db.Database.EnsureCreatedAsync();
        var (host, _) = App.CreateHost(stack, bus => bus
            .Delivery(delivery => (delivery.MaxAttempts, delivery.SendTimeout) = (0, delivery.Lease))
            .Inbox(inbox => inbox.PurgeBatch = 0));
        using (host)
        {
            var failure = (await host.Awaiting(self => self.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;
            failure.Failures.Should().HaveCount(3).And.Contain(text => text.Contains("MaxAttempts is 0"))
                .And.Contain(text => text.Contains("SendTimeout")).And.Contain(text => text.Contains("PurgeBatch is 0"));
        }
    }

    [SkippableFact]
    public async Task A_host_whose_database_is_down_starts_and_delivers_when_it_is_back()
    {
        await using var postgres = await Servers.PrivatePostgresAsync();
        await using var stack = Stack.Of(await postgres.CreateDatabaseAsync("start"), await Servers.RabbitMqVirtualHostAsync("start"));
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await postgres.StopAsync();

        var (host, logs) = App.CreateHost(stack, bus => bus.AddHandler<ReserveHandler>());
        using (host)
        {
            await host.StartAsync();
            logs.Count(SchemaNotChecked).Should().Be(1);
            await postgres.RestartAsync();

            await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the message that waited is consumed");
            await stack.DrainedAsync();
            await host.StopAsync();
        }
    }
}
