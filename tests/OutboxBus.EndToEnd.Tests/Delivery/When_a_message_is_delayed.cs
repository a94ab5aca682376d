using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_a_message_is_delayed
{
    private static readonly TimeSpan Delay = TimeSpan.FromSeconds(3);

    [SkippableFact]
    public async Task It_leaves_when_due_even_if_the_next_poll_is_far_away()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(
            stack,
            bus =>
            {
                bus.AddHandler<LateHandler>();
                // Longer than the test may last.
                bus.Delivery(delivery => delivery.PollInterval = TimeSpan.FromMinutes(5));
            });
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await app.Probe.SeesAsync(nameof(LateHandler));

        var due = DateTimeOffset.UtcNow + Delay;
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()), new PublishOptions { DueAt = due });

        await app.Probe.SeesAsync(nameof(LateHandler), 2);
        app.Probe.All[1].What.Should().BeOfType<DateTimeOffset>().Which.Should().BeOnOrAfter(due);
        await stack.DrainedAsync();
    }

    [SkippableFact]
    public async Task Its_due_time_survives_a_restart()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        DateTimeOffset due;
        await using (var before = await App.StartAsync(stack, bus => bus.AddHandler<LateHandler>()))
        {
            due = DateTimeOffset.UtcNow + Delay;
            await before.PublishAsync(new OrderPlaced(Guid.NewGuid()), new PublishOptions { Delay = Delay });
            (await stack.ReadAsync(db => db.Outbox.Select(row => row.DueAt).SingleAsync())).Should().BeOnOrAfter(due.UtcDateTime.AddMilliseconds(-1));
        }

        await using var after = await App.StartAsync(stack, bus => bus.AddHandler<LateHandler>());

        await after.Probe.SeesAsync(nameof(LateHandler));
        after.Probe.All.Should().ContainSingle().Which.What.Should().BeOfType<DateTimeOffset>().Which.Should().BeOnOrAfter(due);
        await stack.DrainedAsync();
    }
}

public sealed class LateHandler(Probe probe) : IMessageHandler<OrderPlaced>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw(nameof(LateHandler), DateTimeOffset.UtcNow);
        return Task.CompletedTask;
    }
}
