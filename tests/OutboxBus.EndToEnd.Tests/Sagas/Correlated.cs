using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// Which instances an event is for, and what becomes of it if there is none.
public sealed class Correlated
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind, SagaConcurrency> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, SagaConcurrency.Optimistic },
        { StackKind.PostgreSqlRabbitMq, SagaConcurrency.Pessimistic },
        { StackKind.SqliteInMemory, SagaConcurrency.Optimistic },
        { StackKind.SqliteInMemory, SagaConcurrency.Pessimistic },
    };

    public static TheoryData<StackKind> Kinds => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_event_finds_its_instance_by_an_expression(StackKind kind, SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await StartAsync(stack, concurrency);

        await app.PublishAsync(new NumberOpened(7, "north"));
        await app.Probe.SeesAsync<NumberMoved>(1);
        await app.PublishAsync(new NumberOpened(8, "north"));
        await app.Probe.SeesAsync<NumberMoved>(2);
        await app.PublishAsync(new NumberOpened(7, "north"));
        await app.Probe.SeesAsync<NumberMoved>(3);
        await app.PublishAsync(new NumberStepped(7));
        await app.Probe.SeesAsync<NumberMoved>(4);
        await app.SettledAsync(stack);

        app.Probe.Seen<NumberMoved>().Should().Equal(new NumberMoved(7, 1), new NumberMoved(8, 1), new NumberMoved(7, 2), new NumberMoved(7, 3));
        (await StepsAsync(stack)).Should().Equal((7, 3), (8, 1));
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_event_that_fits_several_instances_moves_all_of_them_or_none(StackKind kind, SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await StartAsync(stack, concurrency);
        var numbers = 0;
        foreach (var region in (string[])["north", "north", "south", "north"])
        {
            await app.PublishAsync(new NumberOpened(++numbers, region));
            await app.Probe.SeesAsync<NumberMoved>(numbers);
        }

        await app.PublishAsync(new RegionStepped("north", FailingNumber: 2));
        await app.Probe.SeesAsync<Fault<RegionStepped>>();
        (await StepsAsync(stack)).Should().Equal((1, 1), (2, 1), (3, 1), (4, 1));
        await app.PublishAsync(new RegionStepped("north", FailingNumber: 0));

        await app.Probe.SeesAsync<NumberMoved>(7);
        await app.SettledAsync(stack);
        app.Probe.Seen<NumberMoved>().Where(moved => moved.Steps == 2).Should().BeEquivalentTo([new NumberMoved(1, 2), new NumberMoved(2, 2), new NumberMoved(4, 2)]);
        (await StepsAsync(stack)).Should().Equal((1, 2), (2, 2), (3, 1), (4, 2));
        app.Probe.Seen<Fault<RegionStepped>>().Should().ContainSingle();
    }

    [SkippableTheory]
    [InlineData(SagaConcurrency.Optimistic)]
    [InlineData(SagaConcurrency.Pessimistic)]
    public async Task Events_at_once_that_fit_several_instances_all_count(SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq);
        await using var app = await StartAsync(stack, concurrency, retries: concurrency == SagaConcurrency.Optimistic ? 10 : 0);
        for (var number = 1; number <= 3; number++)
        {
            await app.PublishAsync(new NumberOpened(number, "north"));
            await app.Probe.SeesAsync<NumberMoved>(number);
        }

        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => app.PublishDirectlyAsync(new RegionStepped("north", FailingNumber: 0))));

        await app.Probe.SeesAsync<NumberMoved>(3 + (8 * 3));
        await app.SettledAsync(stack);
        (await StepsAsync(stack)).Should().Equal((1, 9), (2, 9), (3, 9));
        app.Probe.Seen<NumberMoved>().Should().OnlyHaveUniqueItems();
        app.Probe.Seen<Fault<RegionStepped>>().Should().BeEmpty();
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task An_event_without_an_instance_is_discarded_or_fails_as_the_machine_says(StackKind kind)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await StartAsync(stack, null);

        await app.PublishAsync(new NumberStepped(7));
        await app.PublishAsync(new LaxStep(Guid.NewGuid()));
        await app.PublishAsync(new StrictStep(Guid.NewGuid()));

        await app.Probe.SeesAsync<Fault<StrictStep>>();
        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState)))), count => count == 2, "the other two count as consumed");
        app.Probe.Seen<Fault<StrictStep>>().Should().ContainSingle();
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(0);
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            await Eventually.BecomesAsync(() => broker.CountAsync("number_error"), count => count == 1, "the event that must have an instance is in the error queue");
            (await broker.CountAsync("number_skipped")).Should().BeNull();
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task What_a_missing_instance_answers_and_publishes_belongs_to_the_events_transaction(StackKind kind)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await StartAsync(stack, null);
        var (order, id) = (Guid.NewGuid(), Guid.NewGuid());

        var client = app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30)).CreateRequestClient<NumberAsked>();
        (await client.GetResponse<NoSuchOrder>(new NumberAsked(order))).Message.Should().Be(new NoSuchOrder(order));
        for (var copy = 0; copy < 2; copy++)
            await app.PublishDirectlyAsync(new NumberAsked(order, Fails: true), id);
        await app.Probe.SeesAsync<Fault<NumberAsked>>(2);
        await app.PublishDirectlyAsync(new NumberAsked(order), id);
        await app.PublishDirectlyAsync(new NumberAsked(order), id);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 1, "the last copy was recognised");
        await app.Probe.SeesAsync<NumberMissed>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<NumberMissed>().Should().HaveCount(2, "those that failed have published nothing");
    }

    private static Task<App> StartAsync(Stack stack, SagaConcurrency? concurrency, int retries = 0) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddSagaStateMachine<NumberMachine, OrderState>(saga =>
            {
                if (retries > 0)
                    saga.UseMessageRetry(retry => retry.Immediate(retries));
            })
            .OutboxBusRepository<OrderState, ShopDb>(repository => repository.Concurrency = concurrency)
            .Endpoint(endpoint => endpoint.Name = "number");
        bus.Watch<NumberMoved>();
        bus.Watch<NumberMissed>();
        bus.Watch<Fault<RegionStepped>>();
        bus.Watch<Fault<StrictStep>>();
        bus.Watch<Fault<NumberAsked>>();
    });

    private static async Task<IReadOnlyList<(int Number, int Steps)>> StepsAsync(Stack stack)
    {
        var sagas = await stack.ReadAsync(db => db.Set<OrderState>().OrderBy(saga => saga.Number).ToListAsync());
        return [.. sagas.Select(saga => (saga.Number, saga.Steps))];
    }

    public sealed record NumberOpened(int Number, string Region);

    public sealed record NumberStepped(int Number);

    public sealed record RegionStepped(string Region, int FailingNumber);

    public sealed record NumberMoved(int Number, int Steps);

    public sealed record StrictStep(Guid OrderId);

    public sealed record LaxStep(Guid OrderId);

    public sealed record NumberAsked(Guid OrderId, bool Fails = false);

    public sealed record NoSuchOrder(Guid OrderId);

    public sealed record NumberMissed(Guid OrderId);

    public sealed class NumberMachine : MassTransitStateMachine<OrderState>
    {
        public NumberMachine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => Opened, opened => opened.CorrelateBy((saga, context) => saga.Number == context.Message.Number).SelectId(_ => NewId.NextGuid()));
            Event(() => Stepped, stepped => stepped.CorrelateBy<int>(saga => saga.Number, context => context.Message.Number));
            Event(() => InRegion, region => region.CorrelateBy((saga, context) => saga.Region == context.Message.Region));
            Event(() => Strict, strict => strict.CorrelateById(context => context.Message.OrderId).OnMissingInstance(missing => missing.Fault()));
            Event(() => Lax, lax => lax.CorrelateById(context => context.Message.OrderId).OnMissingInstance(missing => missing.Discard()));
            Event(() => Asked, asked => asked.CorrelateById(context => context.Message.OrderId).OnMissingInstance(missing => missing.ExecuteAsync(async context =>
            {
                await context.RespondAsync(new NoSuchOrder(context.Message.OrderId));
                await context.Publish(new NumberMissed(context.Message.OrderId));
                if (context.Message.Fails)
                    throw new InvalidOperationException("Nor is there an answer.");
            })));

            Initially(Move(When(Opened).Then(context =>
            {
                context.Saga.Number = context.Message.Number;
                context.Saga.Region = context.Message.Region;
            })).TransitionTo(Open));
            During(
                Open,
                Move(When(Opened)),
                Move(When(Stepped)),
                Move(When(InRegion)).Then(context =>
                {
                    if (context.Saga.Number == context.Message.FailingNumber)
                        throw new InvalidOperationException("One of them fails.");
                }));

            static EventActivityBinder<OrderState, T> Move<T>(EventActivityBinder<OrderState, T> on)
                where T : class => on
                .Then(context => context.Saga.Steps++)
                .Publish(context => new NumberMoved(context.Saga.Number, context.Saga.Steps));
        }

        public State Open { get; } = null!;

        public Event<NumberOpened> Opened { get; } = null!;

        public Event<NumberStepped> Stepped { get; } = null!;

        public Event<RegionStepped> InRegion { get; } = null!;

        public Event<StrictStep> Strict { get; } = null!;

        public Event<LaxStep> Lax { get; } = null!;

        public Event<NumberAsked> Asked { get; } = null!;
    }
}
