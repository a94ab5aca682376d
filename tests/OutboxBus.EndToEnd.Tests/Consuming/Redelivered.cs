using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// A message that its consumer sends back on purpose is consumed again; one redelivered after a failure is still the same.
public sealed class Redelivered
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind, string> Ways => new()
    {
        { StackKind.PostgreSqlRabbitMq, "redeliver" },
        { StackKind.PostgreSqlRabbitMq, "defer" },
        { StackKind.PostgreSqlRabbitMq, "forward" },
        { StackKind.PostgreSqlRabbitMq, "short" },
        { StackKind.SqliteInMemory, "short" },
        { StackKind.SqliteInMemory, "redeliver" },
        { StackKind.SqliteInMemory, "defer" },
        { StackKind.SqliteInMemory, "forward" },
    };

    [SkippableTheory]
    [MemberData(nameof(Ways))]
    public async Task A_message_the_consumer_sends_back_is_consumed_again_by_it_alone_and_each_time_once(StackKind kind, string way)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(
            stack,
            bus =>
            {
                bus.AddConsumer<ReturningConsumer>().Endpoint(endpoint => endpoint.Name = "shared");
                bus.AddConsumer<OtherConsumer>().Endpoint(endpoint => endpoint.Name = "shared");
                bus.AddConsumer<HeaderConsumer>();
            },
            services: services => services.AddSingleton(new Way(way, Times: 2)));
        var (message, id) = (new OrderPlaced(Guid.NewGuid()), Guid.NewGuid());

        await PublishDirectlyAsync(app, message, id);

        await app.Probe.SeesAsync("returning", 3);
        await app.Probe.SeesAsync("headers", 3);
        await stack.DrainedAsync();
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "to the other consumer of the queue both were duplicates");
        app.Probe.Of("other").Should().ContainSingle();
        app.Probe.Of("headers").Should().OnlyContain(sighting => !((string)sighting.What!).Contains("Generation", StringComparison.Ordinal), "what it publishes is no redelivery");
        (await GenerationsAsync(stack, id)).Should().Equal(0, 1, 2);

        await PublishDirectlyAsync(app, message, id);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 4, "a copy of the original is a duplicate still, to both");
        (await stack.ReadAsync(db => db.Effects.CountAsync(effect => effect.By == "returning"))).Should().Be(3);
        app.Probe.Of("returning").Should().HaveCount(3);
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task A_redelivery_waits_in_the_database_and_is_part_of_the_transaction(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(
            stack,
            bus =>
            {
                bus.AddConsumer<ReturningConsumer>(consumer => consumer.UseMessageRetry(retry => retry.Immediate(1)));
                // Its redelivery, for failures, goes to the broker at once.
                bus.AddConfigureEndpointsCallback((_, _, endpoint) => endpoint.UseDelayedRedelivery(Soon));
            },
            services: services => services.AddSingleton(new Way("later", Times: 1, FailsFirst: true)));

        await PublishDirectlyAsync(app, new OrderPlaced(Guid.NewGuid()), Guid.NewGuid());

        var rows = await Eventually.BecomesAsync(
            () => stack.ReadAsync(db => db.Outbox.Where(row => row.MessageType.Contains(nameof(OrderPlaced))).ToListAsync()), found => found.Count > 0, "the redelivery is in the outbox");
        rows.Should().ContainSingle("the attempt that failed has sent nothing back").Which.DueAt.Should().BeAfter(DateTime.UtcNow.AddMinutes(50));
        app.Probe.Of("returning").Should().HaveCount(2);
    }

    [SkippableTheory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public async Task A_redelivery_after_a_failure_is_the_same_message_and_its_copies_are_duplicates(bool scheduled, bool onEndpoint)
    {
        // RabbitMQ cannot delay without a plugin.
        await using var stack = await Stack.CreateAsync(StackKind.SqliteInMemory);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddDelayedMessageScheduler();
            bus.AddConsumer<RecoveringConsumer>(consumer =>
            {
                if (onEndpoint)
                    return;
                if (scheduled)
                    consumer.UseScheduledRedelivery(Soon);
                else
                    consumer.UseDelayedRedelivery(Soon);
            });
            bus.AddConfigureEndpointsCallback((_, _, endpoint) =>
            {
                if (!onEndpoint)
                    return;
                if (scheduled)
                    endpoint.UseScheduledRedelivery(Soon);
                else
                    endpoint.UseDelayedRedelivery(Soon);
            });
        });
        var (message, id) = (new OrderPlaced(Guid.NewGuid()), Guid.NewGuid());

        await PublishDirectlyAsync(app, message, id);

        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the redelivered message was consumed");
        app.Probe.Of("recovering").Select(sighting => sighting.What).Should().Equal(0, 1);
        (await GenerationsAsync(stack, id)).Should().Equal(0);

        await PublishDirectlyAsync(app, message, id);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 1, "a copy of the original is a duplicate");
        (await stack.EffectsAsync()).Should().Be(1);
    }

    private static void Soon(IRetryConfigurator retry) => retry.Interval(2, TimeSpan.FromMilliseconds(50));

    private static Task PublishDirectlyAsync(App app, OrderPlaced message, Guid id)
        => app.Services.GetRequiredService<IBus>().Publish(message, context => context.MessageId = id);

    private static Task<List<int>> GenerationsAsync(Stack stack, Guid id)
        => stack.ReadAsync(db => db.Inbox.Where(record => record.MessageId == id && !record.Consumer.Contains(nameof(OtherConsumer))).Select(record => record.Generation).Order().ToListAsync());
}

/// <summary>How, and how often, a consumer sends its message back.</summary>
public sealed record Way(string Name, int Times, bool FailsFirst = false);

public sealed class ReturningConsumer(ShopDb db, Probe probe, Way way) : IConsumer<OrderPlaced>
{
    public async Task Consume(ConsumeContext<OrderPlaced> context)
    {
        var before = probe.Of("returning").Count;
        probe.Saw("returning");
        db.Add(new Effect { OrderId = context.Message.OrderId, By = "returning" });
        await context.Publish(new Leaf("returning"));
        if (before >= way.Times + (way.FailsFirst ? 1 : 0))
            return;
        await (way.Name switch
        {
            "redeliver" => context.Redeliver(TimeSpan.FromMilliseconds(50)),
            "later" => context.Redeliver(TimeSpan.FromHours(1)),
            "defer" => context.Defer(TimeSpan.FromMilliseconds(50)),
            "short" => context.Forward(new Uri("queue:shared")),
            _ => context.Forward(context.ReceiveContext.InputAddress),
        });
        if (way.FailsFirst && before == 0)
            throw new InvalidOperationException("The first attempt fails.");
    }
}

public sealed class HeaderConsumer(Probe probe) : IConsumer<Leaf>
{
    public Task Consume(ConsumeContext<Leaf> context)
    {
        probe.Saw("headers", string.Join(',', context.Headers.GetAll().Select(header => header.Key)));
        return Task.CompletedTask;
    }
}

public sealed class OtherConsumer(Probe probe) : IConsumer<OrderPlaced>
{
    public Task Consume(ConsumeContext<OrderPlaced> context)
    {
        probe.Saw("other");
        return Task.CompletedTask;
    }
}

public sealed class RecoveringConsumer(ShopDb db, Probe probe) : IConsumer<OrderPlaced>
{
    public async Task Consume(ConsumeContext<OrderPlaced> context)
    {
        probe.Saw("recovering", context.GetRedeliveryCount());
        db.Add(new Effect { OrderId = context.Message.OrderId, By = "recovering" });
        await db.SaveChangesAsync();
        if (context.GetRedeliveryCount() == 0)
            throw new InvalidOperationException("The first delivery fails.");
    }
}
