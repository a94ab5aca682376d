using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class AcrossOutages
{
    private const int Orders = 300;
    private const int Retrying = 206;
    private const int TransportFailed = 208;
    private const int TransportIsBack = 209;
    private const int DeliveryIsOff = 203;

    [SkippableFact]
    public async Task A_killed_broker_costs_no_message_and_no_attempt_and_is_reported_once()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("outage"), await rabbitMq.CreateVirtualHostAsync("outage"));
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>());

        for (var order = 1; order <= Orders; order++)
        {
            if (order == Orders / 3)
                await rabbitMq.KillAsync();
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }

        await Eventually.BecomesAsync(() => app.Logs.Count(TransportFailed) == 1, "the outage is noticed");
        (await stack.ReadAsync(db => db.Outbox.Where(row => row.Attempts > 0).CountAsync())).Should().Be(0);
        await rabbitMq.RestartAsync();

        await AllHaveTheirEffectAsync(stack, Orders);
        await stack.DrainedAsync();
        app.Logs.Count(Retrying).Should().Be(0, "an outage costs no attempt");
        app.Logs.Count(TransportFailed).Should().Be(1);
        app.Logs.Count(TransportIsBack).Should().Be(1);
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }

    [SkippableFact]
    public async Task A_killed_database_loses_nothing_that_was_committed()
    {
        await using var postgres = await Servers.PrivatePostgresAsync();
        await using var stack = Stack.Of(await postgres.CreateDatabaseAsync("outage"), await Servers.RabbitMqVirtualHostAsync("outage"));
        await using var app = await App.StartAsync(
            stack, bus => bus.AddHandler<ReserveHandler>(handler => handler.RetryDelays = [.. Enumerable.Repeat(TimeSpan.FromMilliseconds(500), 60)]));

        var refused = 0;
        for (var order = 1; order <= Orders; order++)
        {
            if (order == Orders / 3)
                await postgres.KillAsync();
            if (order == Orders * 2 / 3)
                await postgres.RestartAsync();
            try
            {
                await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
            }
            catch (Exception exception) when (exception is DbUpdateException or NpgsqlException or InvalidOperationException)
            {
                refused++;
            }
        }

        refused.Should().BePositive();
        var committed = await stack.ReadAsync(db => db.Orders.CountAsync());
        committed.Should().BeInRange(Orders / 2, Orders - 1);
        await AllHaveTheirEffectAsync(stack, committed);
        await stack.DrainedAsync();
    }

    [SkippableFact]
    public async Task A_process_without_delivery_leaves_its_messages_to_one_that_has_it()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var deliverer = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>());
        await using var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false));

        for (var order = 0; order < 20; order++)
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await AllHaveTheirEffectAsync(stack, 20);
        await stack.DrainedAsync();
        publisher.Logs.Count(DeliveryIsOff).Should().Be(1);
    }

    [SkippableFact]
    public async Task An_application_starts_and_accepts_orders_while_the_broker_is_down()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("outage"), await rabbitMq.CreateVirtualHostAsync("outage"));
        await rabbitMq.StopAsync();
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>(), DoNotWaitForBroker);

        for (var order = 0; order < 20; order++)
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        (await stack.ReadAsync(db => db.Outbox.CountAsync())).Should().Be(20);
        await rabbitMq.RestartAsync();

        await AllHaveTheirEffectAsync(stack, 20);
        await stack.DrainedAsync();
        app.Logs.Count(Retrying).Should().Be(0);
    }

    [SkippableFact]
    public async Task What_waits_at_the_very_first_start_reaches_the_handlers_of_that_process()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
        {
            for (var order = 0; order < 20; order++)
                await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }

        // The handler's queue does not exist yet: a message sent before it does would be dropped by the broker.
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>(), DoNotWaitForBroker);

        await AllHaveTheirEffectAsync(stack, 20);
    }

    private static void DoNotWaitForBroker(IServiceCollection services) => services.Configure<MassTransitHostOptions>(host => host.WaitUntilStarted = false);

    private static async Task AllHaveTheirEffectAsync(Stack stack, int orders)
    {
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count >= orders, $"{orders} orders have their effect");
        (await stack.ReadAsync(db => db.Effects.Select(effect => effect.OrderId).ToListAsync())).Should().HaveCount(orders).And.OnlyHaveUniqueItems();
    }
}

public sealed class ReserveHandler(ShopDb db) : IMessageHandler<OrderPlaced>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Add(new Effect { OrderId = message.OrderId, By = "reserve" });
        return Task.CompletedTask;
    }
}
