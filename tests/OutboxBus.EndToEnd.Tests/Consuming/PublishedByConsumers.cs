using FluentAssertions;
using MassTransit;
using MassTransit.MessageData;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// Whatever and however a consumer publishes, it is all there when the consumer has committed, and none of it otherwise.
public sealed class PublishedByConsumers
{
    private const int Duplicate = 301;
    private const int Fragments = 100;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    public static TheoryData<StackKind> Kinds => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_hundred_messages_published_at_once_and_without_awaiting_leave_once_though_their_cause_comes_three_times(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<FragmentingConsumer>(consumer => consumer.UseMessageRetry(retry => retry.Immediate(1)));
            bus.Watch<Fragment>();
            bus.Watch<Fault<OrderPlaced>>();
        });
        var (message, id) = (new OrderPlaced(Guid.NewGuid()), Guid.NewGuid());

        await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => app.PublishDirectlyAsync(message, id)));

        await app.Probe.SeesAsync<Fragment>(Fragments);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "two copies were recognised");
        await app.SettledAsync(stack);
        app.Probe.Seen<Fragment>().Select(fragment => fragment.Number).Should().BeEquivalentTo(Enumerable.Range(0, Fragments));
        app.Probe.Seen<Fault<OrderPlaced>>().Should().BeEmpty();
        (await stack.EffectsAsync()).Should().Be(1);
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Messages_made_by_initializers_arrive_as_what_they_implement(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<InitializingConsumer>();
            bus.AddConsumer<TellableConsumer>();
            bus.Watch<ITold>();
        });
        var order = Guid.NewGuid();

        await app.PublishAsync(new OrderPlaced(order));

        await app.Probe.SeesAsync<ITold>(3);
        await app.Probe.SeesAsync("tellable", 2);
        await app.SettledAsync(stack);
        app.Probe.Seen<ITold>().Select(told => (told.OrderId, told.What)).Should().BeEquivalentTo([(order, "published"), (order, "sent"), (order, "answered")]);
        app.Probe.Of("tellable").Should().HaveCount(2, "a publish reaches those who subscribe to a base type, a send does not");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_answer_of_a_consumer_that_fails_later_never_leaves(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartMassTransitAsync(stack, bus => bus.AddConsumer<RashConsumer>());
        var client = app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30)).CreateRequestClient<WeightAsked>();

        (await client.Awaiting(self => self.GetResponse<WeightTold>(new WeightAsked(Guid.NewGuid()))).Should().ThrowAsync<RequestFaultException>())
            .Which.Fault!.Cause().Should().Be("On second thought, no.");
        (await stack.ReadAsync(db => db.Outbox.CountAsync())).Should().Be(0);
    }

    // What a key conflict in the consumer's flush is to one message it is not to the next.
    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_consumer_whose_rows_are_refused_fails_once_and_publishes_nothing(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<StoringConsumer>();
            bus.Watch<Leaf>();
            bus.Watch<Fault<OrderPlaced>>();
        });
        var (one, two) = (Guid.NewGuid(), Guid.NewGuid());

        await app.PublishDirectlyAsync(new OrderPlaced(one));
        await app.Probe.SeesAsync<Leaf>(1);
        await app.PublishDirectlyAsync(new OrderPlaced(one));
        await app.Probe.SeesAsync<Fault<OrderPlaced>>();
        await app.PublishDirectlyAsync(new OrderPlaced(two));
        await app.Probe.SeesAsync<Leaf>(2);
        await app.SettledAsync(stack);

        app.Probe.Seen<Leaf>().Should().Equal(new Leaf($"{one}"), new Leaf($"{two}"));
        app.Probe.Seen<Fault<OrderPlaced>>().Should().ContainSingle().Which.Exceptions[0].ExceptionType.Should().Be(typeof(DbUpdateException).FullName);
        (await stack.ReadAsync(db => db.Orders.CountAsync())).Should().Be(2);
        (await stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(StoringConsumer))))).Should().Be(2);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Delegates_that_handle_messages_have_the_transaction_too(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        stack.ConfigureTransport = (context, transport) => transport.ReceiveEndpoint("by-hand", endpoint =>
        {
            endpoint.UseMessageRetry(retry => retry.Immediate(1));
            endpoint.UseOutboxBus(context);
            endpoint.Handler<OrderPlaced>(consume => consume.Publish(new Leaf("Handler")).ContinueWith(_ => FailFirst(consume), TaskScheduler.Default));
        });
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddHandler(async (ConsumeContext<OrderPlaced> context, ShopDb db) =>
            {
                db.Add(new Effect { OrderId = context.Message.OrderId, By = "AddHandler" });
                await context.Publish(new Leaf("AddHandler"));
                FailFirst(context);
            });
            bus.AddConfigureEndpointsCallback((_, _, endpoint) => endpoint.UseMessageRetry(retry => retry.Immediate(1)));
            bus.Watch<Leaf>();
        });
        var (message, id) = (new OrderPlaced(Guid.NewGuid()), Guid.NewGuid());

        for (var copy = 0; copy < 2; copy++)
            await app.PublishDirectlyAsync(message, id);

        await app.Probe.SeesAsync<Leaf>(2);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "each has recognised its copy");
        await app.SettledAsync(stack);
        app.Probe.Seen<Leaf>().Should().BeEquivalentTo([new Leaf("Handler"), new Leaf("AddHandler")]);
        (await stack.EffectsAsync()).Should().Be(1);

        static void FailFirst(ConsumeContext context)
        {
            if (context.GetRetryAttempt() == 0)
                throw new InvalidOperationException("The first attempt fails.");
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Bodies_kept_elsewhere_arrive_whole(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        var repository = new InMemoryMessageDataRepository();
        stack.ConfigureTransport = (_, transport) => transport.UseMessageData(repository);
        await using var app = await App.StartMassTransitAsync(
            stack,
            bus =>
            {
                bus.AddConsumer<LoadingConsumer>();
                bus.AddConsumer<UnloadingConsumer>();
            },
            services: services => services.AddSingleton<IMessageDataRepository>(repository));

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("unloading");
        app.Probe.Of("unloading").Should().ContainSingle().Which.What.Should().Be(new string('x', LoadingConsumer.Size));
    }

    public interface ITellable
    {
        Guid OrderId { get; }
    }

    public interface ITold : ITellable
    {
        string What { get; }
    }

    public sealed record Fragment(int Number);

    public sealed record Load
    {
        public MessageData<string>? Body { get; init; }
    }

    public sealed class FragmentingConsumer(ShopDb db, IPublishEndpoint publisher) : IConsumer<OrderPlaced>
    {
        public async Task Consume(ConsumeContext<OrderPlaced> context)
        {
            db.Add(new Effect { OrderId = context.Message.OrderId, By = "fragmenting" });
            await Task.WhenAll(Enumerable.Range(0, Fragments / 2).Select(number => number % 2 == 0 ? context.Publish(new Fragment(number)) : publisher.Publish(new Fragment(number))));
            for (var number = Fragments / 2; number < Fragments; number++)
                _ = context.Publish(new Fragment(number));
            if (context.GetRetryAttempt() == 0)
                throw new InvalidOperationException("The first attempt fails.");
        }
    }

    public sealed class InitializingConsumer : IConsumer<OrderPlaced>
    {
        public async Task Consume(ConsumeContext<OrderPlaced> context)
        {
            await context.Publish<ITold>(new { context.Message.OrderId, What = "published" });
            await context.Send<ITold>(new Uri("queue:watch"), new { context.Message.OrderId, What = "sent" });
            // Nobody has asked, so the answer is published.
            await context.RespondAsync<ITold>(new { context.Message.OrderId, What = "answered" });
        }
    }

    public sealed class TellableConsumer(Probe probe) : IConsumer<ITellable>
    {
        public Task Consume(ConsumeContext<ITellable> context)
        {
            probe.Saw("tellable", context.Message.OrderId);
            return Task.CompletedTask;
        }
    }

    public sealed class RashConsumer : IConsumer<WeightAsked>
    {
        public async Task Consume(ConsumeContext<WeightAsked> context)
        {
            await context.RespondAsync(new WeightTold(context.Message.OrderId, 3));
            throw new InvalidOperationException("On second thought, no.");
        }
    }

    public sealed class StoringConsumer(ShopDb db) : IConsumer<OrderPlaced>
    {
        public Task Consume(ConsumeContext<OrderPlaced> context)
        {
            db.Add(new Order { Id = context.Message.OrderId });
            return context.Publish(new Leaf($"{context.Message.OrderId}"));
        }
    }

    public sealed class LoadingConsumer(IMessageDataRepository repository) : IConsumer<OrderPlaced>
    {
        public const int Size = 1_000_000;

        public async Task Consume(ConsumeContext<OrderPlaced> context)
            => await context.Publish(new Load { Body = await repository.PutString(new string('x', Size), context.CancellationToken) });
    }

    public sealed class UnloadingConsumer(Probe probe) : IConsumer<Load>
    {
        public async Task Consume(ConsumeContext<Load> context) => probe.Saw("unloading", await context.Message.Body!.Value);
    }
}
