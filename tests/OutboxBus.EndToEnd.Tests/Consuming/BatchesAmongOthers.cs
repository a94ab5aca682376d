using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// To those who sent the messages of a batch, each is a message by itself.
public sealed class BatchesAmongOthers
{
    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_batch_that_always_fails_is_one_fault_for_each_of_its_messages_and_leaves_nothing(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync<FailingConsumer, OrderPlaced>(stack);
        var orders = (IReadOnlyList<Guid>)[Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid()];

        foreach (var order in orders)
            await app.PublishDirectlyAsync(new OrderPlaced(order));

        await app.Probe.SeesAsync<Fault<OrderPlaced>>(3);
        await app.SettledAsync(stack);
        app.Probe.Seen<Fault<OrderPlaced>>().Select(fault => fault.Message.OrderId).Should().BeEquivalentTo(orders);
        app.Probe.Of("failing").Should().HaveCount(2);
        app.Probe.Seen<Leaf>().Should().BeEmpty();
        (await stack.EffectsAsync()).Should().Be(0);
        (await stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(FailingConsumer))))).Should().Be(0);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Each_request_of_a_batch_gets_its_own_answer_once_the_batch_is_stored(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync<AnsweringConsumer, WeightAsked>(stack);
        var client = app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30)).CreateRequestClient<WeightAsked>();
        var orders = (IReadOnlyList<Guid>)[Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid()];

        var answers = await Task.WhenAll(orders.Select(order => client.GetResponse<WeightTold>(new WeightAsked(order))));

        answers.Select(answer => answer.Message.OrderId).Should().Equal(orders);
        app.Probe.Of("answering").Should().ContainSingle("all three were one batch");
        (await stack.EffectsAsync()).Should().Be(3);
    }

    private static Task<App> StartAsync<TConsumer, TMessage>(Stack stack)
        where TConsumer : class, IConsumer<Batch<TMessage>>
        where TMessage : class => App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<TConsumer>(consumer =>
            {
                consumer.Options<BatchOptions>(batch => batch.SetMessageLimit(3).SetTimeLimit(TimeSpan.FromSeconds(30)));
                consumer.UseMessageRetry(retry => retry.Immediate(1));
            });
            bus.Watch<Leaf>();
            bus.Watch<Fault<OrderPlaced>>();
        });

    public sealed class FailingConsumer(ShopDb db, Probe probe) : IConsumer<Batch<OrderPlaced>>
    {
        public async Task Consume(ConsumeContext<Batch<OrderPlaced>> context)
        {
            probe.Saw("failing");
            foreach (var message in context.Message)
            {
                db.Add(new Effect { OrderId = message.Message.OrderId, By = "failing" });
                await message.Publish(new Leaf("failing"));
            }

            await db.SaveChangesAsync();
            throw new InvalidOperationException("This consumer always fails.");
        }
    }

    public sealed class AnsweringConsumer(ShopDb db, Probe probe) : IConsumer<Batch<WeightAsked>>
    {
        public async Task Consume(ConsumeContext<Batch<WeightAsked>> context)
        {
            probe.Saw("answering");
            foreach (var message in context.Message)
            {
                db.Add(new Effect { OrderId = message.Message.OrderId, By = "answering" });
                await message.RespondAsync(new WeightTold(message.Message.OrderId, 3));
            }
        }
    }
}
