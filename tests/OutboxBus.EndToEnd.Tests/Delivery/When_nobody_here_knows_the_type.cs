using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_nobody_here_knows_the_type
{
    private const int UnknownType = 210;
    private const int Messages = 5;

    [SkippableFact]
    public async Task Messages_wait_without_a_charge_until_a_process_that_knows_it_delivers_them()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
        {
            for (var message = 0; message < Messages; message++)
                await publisher.PublishAsync(new Changed<Order>(Guid.NewGuid()));
        }

        await using var ignorant = await App.StartAsync(stack);
        await Eventually.BecomesAsync(
            () => stack.ReadAsync(db => db.Outbox.CountAsync(row => row.LastError != null)), count => count == Messages, "all have been met");
        (await stack.ReadAsync(db => db.Outbox.CountAsync(row => row.Attempts == 0 && row.ClaimCount == 0))).Should().Be(Messages);

        await using var knowing = await App.StartAsync(stack, bus =>
        {
            bus.AddHandler<ChangedHandler>();
            bus.MassTransit(registration => registration.AddMessage<Changed<Order>>());
        });

        await stack.DrainedAsync();
        await knowing.Probe.SeesAsync(nameof(ChangedHandler), Messages);
        knowing.Probe.All.Select(sighting => sighting.What).Should().HaveCount(Messages).And.OnlyHaveUniqueItems();
        ignorant.Logs.Count(UnknownType).Should().Be(1);
        knowing.Logs.Count(UnknownType).Should().Be(0);
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }
}

/// <summary>A generic type is known only where it was named: no scan of an assembly finds it.</summary>
public sealed record Changed<T>(Guid Id);

public sealed class ChangedHandler(Probe probe) : IMessageHandler<Changed<Order>>
{
    public Task Handle(Changed<Order> message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw(nameof(ChangedHandler), message.Id);
        return Task.CompletedTask;
    }
}
