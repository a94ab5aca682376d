using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

public sealed class Batches
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_batch_is_one_transaction_with_one_record_for_each_message(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync<CountingConsumer>(stack, batchOf: 3);

        await SendAsync(app, Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());

        await app.Probe.SeesAsync("leaf", 3);
        await stack.DrainedAsync();
        app.Probe.Of("batch").Select(sighting => sighting.What).Should().Equal(3);
        (await stack.EffectsAsync()).Should().Be(3);
        (await stack.ReadAsync(db => db.Inbox.CountAsync(row => row.Consumer.Contains("CountingConsumer")))).Should().Be(3);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Of_a_batch_that_is_partly_a_duplicate_the_consumer_gets_the_rest(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync<CountingConsumer>(stack, batchOf: 3);
        var (first, second, third) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        await SendAsync(app, first, second, third);
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 3, "the first batch has committed");

        await SendAsync(app, second, Guid.NewGuid(), first);
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 4, "the new message of the second batch has committed");
        await SendAsync(app, third, second, first);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 5, "five copies were recognised");
        (await stack.EffectsAsync()).Should().Be(4);
        app.Probe.Of("batch").Select(sighting => sighting.What).Should().Equal(3, 1);
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            await Eventually.BecomesAsync(async () => await broker.CountAsync("counting") == 0, "every delivery is acknowledged");
            (await broker.CountAsync("counting_skipped")).Should().BeNull();
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_batch_that_fails_leaves_nothing_and_is_consumed_when_it_is_retried(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync<FailingOnceConsumer>(stack, batchOf: 2, consumer => consumer.UseMessageRetry(retry => retry.Immediate(1)));

        await SendAsync(app, Guid.NewGuid(), Guid.NewGuid());

        await app.Probe.SeesAsync("leaf", 2);
        await stack.DrainedAsync();
        app.Probe.Of("leaf").Should().HaveCount(2, "the first attempt's messages were rolled back");
        app.Probe.Of("attempt").Should().HaveCount(2);
        (await stack.EffectsAsync()).Should().Be(2);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task What_is_published_through_a_message_of_the_batch_is_part_of_its_transaction(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync<PublishingByMemberConsumer>(stack, batchOf: 2);

        await SendAsync(app, Guid.NewGuid(), Guid.NewGuid());

        await Eventually.BecomesAsync(() => app.Probe.Of("attempt").Count == 1, "the batch was consumed");
        await app.PublishAsync(new Leaf("fence"));
        await app.Probe.SeesAsync("leaf");
        app.Probe.Of("leaf").Select(sighting => sighting.What).Should().Equal("fence");
        (await stack.EffectsAsync()).Should().Be(0);
    }

    private static Task<App> StartAsync<TConsumer>(Stack stack, int batchOf, Action<IConsumerConfigurator<TConsumer>>? configure = null)
        where TConsumer : class, IConsumer<Batch<OrderPlaced>> => App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<TConsumer>((_, consumer) =>
            {
                consumer.Options<BatchOptions>(batch => batch.SetMessageLimit(batchOf).SetTimeLimit(TimeSpan.FromSeconds(30)));
                configure?.Invoke(consumer);
            }).Endpoint(endpoint => endpoint.Name = "counting");
            bus.AddConsumer<LeafConsumer>();
        });

    // Sent, so that a batch holds them in a known number.
    private static async Task SendAsync(App app, params Guid[] ids)
    {
        var endpoint = await app.Services.GetRequiredService<IBus>().GetSendEndpoint(new Uri("queue:counting"));
        foreach (var id in ids)
            await endpoint.Send(new OrderPlaced(id), context => context.MessageId = id);
    }

    public sealed class CountingConsumer(ShopDb db, Probe probe) : IConsumer<Batch<OrderPlaced>>
    {
        public async Task Consume(ConsumeContext<Batch<OrderPlaced>> context)
        {
            probe.Saw("batch", context.Message.Length);
            foreach (var message in context.Message)
            {
                db.Add(new Effect { OrderId = message.Message.OrderId, By = "batch" });
                await context.Publish(new Leaf($"{message.Message.OrderId}"));
            }
        }
    }

    public sealed class FailingOnceConsumer(ShopDb db, Probe probe) : IConsumer<Batch<OrderPlaced>>
    {
        public async Task Consume(ConsumeContext<Batch<OrderPlaced>> context)
        {
            probe.Saw("attempt", context.GetRetryAttempt());
            foreach (var message in context.Message)
            {
                db.Add(new Effect { OrderId = message.Message.OrderId, By = "batch" });
                await message.Publish(new Leaf($"{message.Message.OrderId}"));
            }

            await db.SaveChangesAsync();
            if (context.GetRetryAttempt() == 0)
                throw new InvalidOperationException("The first attempt fails.");
        }
    }

    public sealed class PublishingByMemberConsumer(ShopDb db, Probe probe) : IConsumer<Batch<OrderPlaced>>
    {
        public async Task Consume(ConsumeContext<Batch<OrderPlaced>> context)
        {
            db.Add(new Effect { OrderId = context.Message[0].Message.OrderId, By = "batch" });
            foreach (var message in context.Message)
                await message.Publish(new Leaf("batch"));
            probe.Saw("attempt");
            throw new InvalidOperationException("This consumer always fails.");
        }
    }
}
