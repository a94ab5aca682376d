using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// However an endpoint is configured, and whatever shares it.
public sealed class OnEndpoints
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind> Kinds => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Two_sagas_and_a_consumer_that_share_an_endpoint_each_consume_an_event_once_whichever_of_them_is_retried(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddSagaStateMachine<OrderMachine, OrderState>().Endpoint(Share);
            bus.AddSagaStateMachine<ShipmentMachine, ShipmentState>().Endpoint(Share);
            bus.AddConsumer<StumblingConsumer>().Endpoint(Share);
            bus.AddConfigureEndpointsCallback((_, _, endpoint) => endpoint.UseMessageRetry(retry => retry.Immediate(1)));
            bus.Watch<OrderMoved>();
            bus.Watch<ParcelSent>();
        });
        var order = Guid.NewGuid();
        await app.PublishAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>();
        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Set<ShipmentState>().CountAsync()), count => count == 1, "the second saga has begun");

        await app.PublishAsync(new StepTaken(order, FailingAttempts: 1));

        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.Probe.SeesAsync<ParcelSent>();
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the consumer has committed");
        await app.SettledAsync(stack);
        (await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync())).Steps.Should().Be(2);
        (await stack.ReadAsync(db => db.Set<ShipmentState>().SingleAsync())).Labels.Should().ContainSingle();
        app.Probe.Seen<ParcelSent>().Should().ContainSingle("the retry of its neighbours is none of its own");
        app.Probe.Of("stumbling").Should().HaveCount(2);

        static void Share(IEndpointRegistrationConfigurator endpoint) => endpoint.Name = "shared";
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task A_definitions_retries_are_outside_the_transaction_and_its_second_inbox_is_none(StackKind kind)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddSagaStateMachine<OrderMachine, OrderState, CarefulDefinition>().Endpoint(endpoint => endpoint.Name = "careful");
            bus.Watch<OrderMoved>();
            bus.Watch<Fault<StepTaken>>();
        });

        await AssertEventsCountOnceAsync(stack, app, failures: 2);
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task A_saga_on_an_endpoint_configured_by_hand_has_the_inbox_it_was_given(StackKind kind)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        stack.ConfigureTransport = (context, transport) => transport.ReceiveEndpoint("by-hand", endpoint =>
        {
            endpoint.UseMessageRetry(retry => retry.Immediate(2));
            endpoint.UseOutboxBus(context);
            endpoint.ConfigureSaga<OrderState>(context);
        });
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddSagaStateMachine<OrderMachine, OrderState>();
            bus.Watch<OrderMoved>();
            bus.Watch<Fault<StepTaken>>();
        });

        await AssertEventsCountOnceAsync(stack, app, failures: 2);
    }

    // No inbox, no outbox: a repository like any other. What a failed event published is gone already.
    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, true)]
    [InlineData(StackKind.PostgreSqlRabbitMq, false)]
    [InlineData(StackKind.SqliteInMemory, true)]
    [InlineData(StackKind.SqliteInMemory, false)]
    public async Task Without_an_inbox_each_event_has_a_transaction_of_its_own(StackKind kind, bool withOutbox)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = withOutbox ? await StartWithoutInboxAsync(stack) : await StartWithoutOutboxAsync(stack);
        var (order, unborn) = (Guid.NewGuid(), Guid.NewGuid());

        await app.PublishDirectlyAsync(new OrderOpened(unborn, FailingAttempts: 1));
        await app.Probe.SeesAsync<Fault<OrderOpened>>();
        await app.PublishDirectlyAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>(2);
        await BecomesAsync(1);
        await app.PublishDirectlyAsync(new StepTaken(order, FailingAttempts: 1));
        await app.Probe.SeesAsync<Fault<StepTaken>>();
        await app.PublishDirectlyAsync(new StepTaken(order));
        await BecomesAsync(2);
        await app.PublishDirectlyAsync(new OrderClosed(order));

        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Set<OrderState>().CountAsync()), count => count == 0, "the finished order is removed, and the failed one never was there");
        (await stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState))))).Should().Be(0);

        Task BecomesAsync(int steps) => Eventually.BecomesAsync(
            () => stack.ReadAsync(db => db.Set<OrderState>().Where(saga => saga.CorrelationId == order).Select(saga => saga.Steps).SingleOrDefaultAsync()), now => now == steps, $"{steps} steps are stored");
    }

    // The strategy would repeat a part of the transaction in a scope that remembers the first attempt.
    [SkippableTheory]
    [InlineData(true, SagaConcurrency.Pessimistic)]
    [InlineData(true, SagaConcurrency.Optimistic)]
    [InlineData(false, SagaConcurrency.Pessimistic)]
    [InlineData(false, SagaConcurrency.Optimistic)]
    public async Task A_retrying_execution_strategy_leaves_retries_to_the_message(bool withOutbox, SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq);
        await using var app = await App.StartAsync(
            stack,
            (IServiceCollection services) => services.AddMassTransit(bus =>
            {
                bus.SetKebabCaseEndpointNameFormatter();
                bus.AddSagaStateMachine<DeadlockedMachine, OrderState>(saga => saga.UseMessageRetry(retry => retry.Immediate(1)))
                    .OutboxBusRepository<OrderState, ShopDb>(repository => repository.Concurrency = concurrency);
                if (withOutbox)
                    bus.AddOutboxBus<ShopDb>(stack.UseEngine);
                stack.UseTransport(bus);
            }),
            services => services.ConfigureDbContext<ShopDb>(options => options.UseNpgsql(npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null))));
        var order = Guid.NewGuid();

        await app.PublishDirectlyAsync(new OrderOpened(order));

        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Set<OrderState>().CountAsync()), count => count == 1, "the second attempt has committed");
        app.Probe.Of("deadlocked").Select(sighting => sighting.What).Should().Equal(0, 1);
        (await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync())).Steps.Should().Be(1);
    }

    private static Task<App> StartWithoutInboxAsync(Stack stack)
    {
        stack.ConfigureTransport = (context, transport) => transport.ReceiveEndpoint("by-hand", endpoint => endpoint.ConfigureSaga<OrderState>(context));
        return App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddSagaStateMachine<OrderMachine, OrderState>();
            AddWatchers(bus);
        });
    }

    private static Task<App> StartWithoutOutboxAsync(Stack stack) => App.StartAsync(
        stack,
        services => services.AddMassTransit(bus =>
        {
            bus.AddSagaStateMachine<OrderMachine, OrderState>().OutboxBusRepository<ShopDb>();
            AddWatchers(bus);
            stack.UseTransport(bus);
        }),
        null);

    private static void AddWatchers(IBusRegistrationConfigurator bus)
    {
        bus.Watch<OrderMoved>();
        bus.Watch<Fault<OrderOpened>>();
        bus.Watch<Fault<StepTaken>>();
    }

    private static async Task AssertEventsCountOnceAsync(Stack stack, App app, int failures)
    {
        var (order, id) = (Guid.NewGuid(), Guid.NewGuid());
        await app.PublishAsync(new OrderOpened(order, failures));
        await app.Probe.SeesAsync<OrderMoved>();
        for (var copy = 0; copy < 2; copy++)
            await app.PublishDirectlyAsync(new StepTaken(order, failures), id);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 1, "the copy was recognised");
        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<OrderMoved>().Should().Equal(new OrderMoved(order, 1), new OrderMoved(order, 2));
        app.Probe.Seen<Fault<StepTaken>>().Should().BeEmpty();
        (await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync())).Steps.Should().Be(2);
        (await stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState))))).Should().Be(2);
    }

    public sealed class CarefulDefinition : SagaDefinition<OrderState>
    {
        protected override void ConfigureSaga(IReceiveEndpointConfigurator endpointConfigurator, ISagaConfigurator<OrderState> sagaConfigurator, IRegistrationContext context)
        {
            endpointConfigurator.UseMessageRetry(retry => retry.Immediate(2));
            endpointConfigurator.UseOutboxBus(context);
        }
    }

    public sealed class DeadlockedMachine : MassTransitStateMachine<OrderState>
    {
        public DeadlockedMachine(Probe probe)
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => Opened, opened => opened.CorrelateById(context => context.Message.OrderId));
            Initially(When(Opened)
                .Then(context =>
                {
                    probe.Saw("deadlocked", context.GetRetryAttempt());
                    context.Saga.Steps++;
                    if (context.GetRetryAttempt() == 0)
                        throw new PostgresException("deadlock detected", "ERROR", "ERROR", PostgresErrorCodes.DeadlockDetected);
                })
                .TransitionTo(Open));
        }

        public State Open { get; } = null!;

        public Event<OrderOpened> Opened { get; } = null!;
    }

    public sealed class StumblingConsumer(ShopDb db, Probe probe) : IConsumer<StepTaken>
    {
        public async Task Consume(ConsumeContext<StepTaken> context)
        {
            probe.Saw("stumbling");
            db.Add(new Effect { OrderId = context.Message.OrderId, By = "stumbling" });
            await db.SaveChangesAsync();
            if (context.GetRetryAttempt() < context.Message.FailingAttempts)
                throw new InvalidOperationException("This attempt fails.");
        }
    }
}
