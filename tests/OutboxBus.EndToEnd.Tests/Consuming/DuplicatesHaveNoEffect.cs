using System.Diagnostics.CodeAnalysis;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

public sealed class DuplicatesHaveNoEffect
{
    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.Last)]
    public async Task A_message_delivered_three_times_has_its_effects_once_and_leaves_nothing_in_any_queue(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<FirstHandler>());
        var message = new OrderPlaced(Guid.NewGuid());
        var id = Guid.NewGuid();

        for (var delivery = 0; delivery < 3; delivery++)
            await PublishDirectlyAsync(app, message, id);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "two deliveries were recognised");
        (await stack.EffectsAsync()).Should().Be(1);
        app.Probe.Of("first").Should().HaveCount(mode == InboxMode.First ? 1 : 3);
        if (stack.Broker is { } uri)
            await AssertQueueIsCleanAsync(app, uri, "first");
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task Eight_copies_at_once_have_one_effect_and_no_fault(InboxMode mode)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync(mode);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<FirstHandler>().AddHandler<FaultHandler>());

        for (var round = 0; round < 10; round++)
        {
            var (message, id) = (new OrderPlaced(Guid.NewGuid()), Guid.NewGuid());
            await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => PublishDirectlyAsync(app, message, id)));
        }

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 70, "seven copies of each message were recognised");
        (await stack.ReadAsync(db => db.Effects.Select(effect => effect.OrderId).ToListAsync())).Should().HaveCount(10).And.OnlyHaveUniqueItems();
        app.Probe.Of("first").Should().HaveCount(mode == InboxMode.First ? 10 : 80);
        app.Probe.Of("fault").Should().BeEmpty();
        await AssertQueueIsCleanAsync(app, stack.Broker!, "first");
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task A_message_whose_transaction_was_aborted_unnoticed_does_not_count_as_consumed(InboxMode mode)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync(mode);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<SwallowingHandler>(handler => handler.RetryDelays = [TimeSpan.Zero]));

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the second attempt has committed");
        app.Probe.Of("swallowing").Select(sighting => sighting.What).Should().Equal(1, 2);
        (await stack.ReadAsync(db => db.Inbox.CountAsync())).Should().Be(1);
    }

    private const int Duplicate = 301;

    private static Task PublishDirectlyAsync(App app, OrderPlaced message, Guid id)
        => app.Services.GetRequiredService<IBus>().Publish(message, context => context.MessageId = id);

    private static async Task AssertQueueIsCleanAsync(App app, Uri uri, string queue)
    {
        await using var broker = await RawBroker.ConnectAsync(uri);
        // What is not acknowledged goes back to the queue when its consumer goes.
        await app.StopAsync();
        (await broker.CountAsync(queue)).Should().Be(0);
        (await broker.CountAsync($"{queue}_error")).Should().BeNull();
        (await broker.CountAsync($"{queue}_skipped")).Should().BeNull();
    }
}

public sealed class SwallowingHandler(ShopDb db, Probe probe) : IMessageHandler<OrderPlaced>
{
    [SuppressMessage("Design", "CA1031", Justification = "Swallowing everything is what this handler is for.")]
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("swallowing", context.Attempt);
        if (context.Attempt > 1)
        {
            db.Add(new Effect { OrderId = message.OrderId, By = "swallowing" });
            return;
        }

        try
        {
            await db.Database.ExecuteSqlRawAsync("select 1 / 0", cancellationToken);
        }
        catch (Exception)
        {
            // PostgreSQL has aborted the transaction; a COMMIT would now be answered with a silent ROLLBACK.
        }
    }
}
