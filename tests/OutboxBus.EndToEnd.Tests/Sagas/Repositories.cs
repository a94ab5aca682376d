using FluentAssertions;
using MassTransit;
using MassTransit.Saga;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// A saga is an entity: it may own objects and have children, and its repository can be asked.
public sealed class Repositories
{
    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Owned_objects_and_children_are_loaded_changed_rolled_back_and_removed_with_their_instance(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var basket = Guid.NewGuid();

        await MoveAsync(app, new BasketBegun(basket, "Elm Street"), moves: 1);
        await MoveAsync(app, new SkuAdded(basket, "apple", 1), moves: 2);
        await MoveAsync(app, new SkuAdded(basket, "pear", 2), moves: 3);
        await MoveAsync(app, new SkuAdded(basket, "apple", 3), moves: 4);
        await MoveAsync(app, new BasketBegun(basket, "Oak Street"), moves: 5);
        await app.PublishAsync(new SkuAdded(basket, "plum", 9, Fails: true));
        await app.Probe.SeesAsync<Fault<SkuAdded>>();
        await app.PublishAsync(new SkuAdded(basket, "apple", 9, Fails: true));
        await app.Probe.SeesAsync<Fault<SkuAdded>>(2);
        await app.SettledAsync(stack);

        var stored = await stack.ReadAsync(db => db.Set<BasketState>().Include(saga => saga.Lines).SingleAsync());
        stored.Address.Should().BeEquivalentTo(new BasketAddress { Street = "Oak Street", City = "Springwood" });
        stored.Lines.Select(line => (line.Sku, line.Quantity)).Should().BeEquivalentTo([("apple", 4), ("pear", 2)]);
        app.Probe.Seen<BasketMoved>().Select(moved => moved.Lines).Should().Equal(0, 1, 2, 2, 2);

        await MoveAsync(app, new BasketEmptied(basket), moves: 6);
        (await stack.ReadAsync(db => db.Set<BasketState>().CountAsync())).Should().Be(0);
        (await stack.ReadAsync(db => db.Set<BasketLine>().CountAsync())).Should().Be(0);
    }

    // The instance's own row never changes: only the lock on it, or its version, keeps the events apart.
    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, SagaConcurrency.Optimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last, SagaConcurrency.Optimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, SagaConcurrency.Pessimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last, SagaConcurrency.Pessimistic)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First, SagaConcurrency.Optimistic)]
    public async Task Owned_objects_added_at_once_know_of_each_other(StackKind kind, InboxMode mode, SagaConcurrency concurrency)
    {
        const int Parcels = 10;
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddSagaStateMachine<ShipmentMachine, ShipmentState>(saga =>
            {
                if (concurrency == SagaConcurrency.Optimistic)
                    saga.UseMessageRetry(retry => retry.Immediate(Parcels));
            }).OutboxBusRepository<ShipmentState, ShopDb>(repository => repository.Concurrency = concurrency);
            bus.Watch<ParcelSent>();
            bus.Watch<Fault<StepTaken>>();
        });
        var order = Guid.NewGuid();
        await app.PublishAsync(new OrderOpened(order));
        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Set<ShipmentState>().CountAsync()), count => count == 1, "the shipment has begun");

        await Task.WhenAll(Enumerable.Range(0, Parcels).Select(_ => app.PublishDirectlyAsync(new StepTaken(order))));

        await app.Probe.SeesAsync<ParcelSent>(Parcels);
        await app.SettledAsync(stack);
        app.Probe.Seen<ParcelSent>().Select(sent => sent.Number).Should().BeEquivalentTo(Enumerable.Range(1, Parcels));
        (await stack.ReadAsync(db => db.Set<ShipmentState>().SingleAsync())).Labels.Select(label => label.Number).Should().BeEquivalentTo(Enumerable.Range(1, Parcels));
        app.Probe.Seen<Fault<StepTaken>>().Should().BeEmpty();
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Children_added_at_once_are_all_kept(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var basket = Guid.NewGuid();
        await MoveAsync(app, new BasketBegun(basket, "Elm Street"), moves: 1);

        await Task.WhenAll(Enumerable.Range(0, 10).Select(sku => app.PublishDirectlyAsync(new SkuAdded(basket, $"{sku % 5}", 1))));

        await app.Probe.SeesAsync<BasketMoved>(11);
        await app.SettledAsync(stack);
        (await stack.ReadAsync(db => db.Set<BasketLine>().Select(line => line.Quantity).ToListAsync())).Should().Equal(2, 2, 2, 2, 2);
        app.Probe.Seen<Fault<SkuAdded>>().Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, SagaConcurrency.Optimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, SagaConcurrency.Pessimistic)]
    [InlineData(StackKind.SqliteInMemory, SagaConcurrency.Optimistic)]
    public async Task Instances_are_found_and_read_without_being_tracked_or_locked(StackKind kind, SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddSagaStateMachine<OrderMachine, OrderState>().OutboxBusRepository<OrderState, ShopDb>(repository => repository.Concurrency = concurrency);
            bus.Watch<OrderMoved>();
        });
        var (one, two) = (Guid.NewGuid(), Guid.NewGuid());
        await app.PublishAsync(new OrderOpened(one));
        await app.PublishAsync(new OrderOpened(two));
        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.PublishAsync(new OrderOpened(two));
        await app.Probe.SeesAsync<OrderMoved>(3);

        await app.InScopeAsync(async (services, db) =>
        {
            var loader = services.GetRequiredService<ILoadSagaRepository<OrderState>>();
            (await loader.Load(one)).Steps.Should().Be(1);
            (await loader.Load(Guid.NewGuid())).Should().BeNull();
            var finder = services.GetRequiredService<IQuerySagaRepository<OrderState>>();
            (await finder.Find(new SagaQuery<OrderState>(saga => saga.Steps == 2))).Should().Equal(two);
            (await finder.Find(new SagaQuery<OrderState>(saga => saga.CurrentState == nameof(OrderMachine.Open)))).Should().BeEquivalentTo([one, two]);
            (await finder.Find(new SagaQuery<OrderState>(saga => saga.Steps > 2))).Should().BeEmpty();
            db.ChangeTracker.Entries().Should().BeEmpty();

            // While somebody looks, events move on.
            await using var transaction = await db.Database.BeginTransactionAsync();
            await loader.Load(one);
            if (kind == StackKind.PostgreSqlRabbitMq)
            {
                await app.PublishDirectlyAsync(new StepTaken(one));
                await app.Probe.SeesAsync<OrderMoved>(4);
                (await loader.Load(one)).Steps.Should().Be(2);
            }
        });
    }

    private static Task<App> StartAsync(Stack stack) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddSagaStateMachine<BasketMachine, BasketState>()
            .OutboxBusRepository<BasketState, ShopDb>(repository => repository.Query = query => query.Include(saga => saga.Lines));
        bus.Watch<BasketMoved>();
        bus.Watch<Fault<SkuAdded>>();
    });

    private static async Task MoveAsync<T>(App app, T message, int moves)
        where T : class
    {
        await app.PublishAsync(message);
        await app.Probe.SeesAsync<BasketMoved>(moves);
    }

    public sealed record BasketBegun(Guid BasketId, string Street);

    public sealed record SkuAdded(Guid BasketId, string Sku, int Quantity, bool Fails = false);

    public sealed record BasketEmptied(Guid BasketId);

    public sealed record BasketMoved(Guid BasketId, int Lines);

    public sealed class BasketMachine : MassTransitStateMachine<BasketState>
    {
        public BasketMachine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => Begun, begun => begun.CorrelateById(context => context.Message.BasketId));
            Event(() => Added, added => added.CorrelateById(context => context.Message.BasketId));
            Event(() => Emptied, emptied => emptied.CorrelateById(context => context.Message.BasketId));

            Initially(Tell(When(Begun).Then(context => context.Saga.Address = new BasketAddress { Street = context.Message.Street, City = "Springwood" })).TransitionTo(Filling));
            During(
                Filling,
                Tell(When(Begun).Then(context => context.Saga.Address!.Street = context.Message.Street)),
                Tell(When(Added).Then(context => Add(context.Saga, context.Message))).Then(context =>
                {
                    if (context.Message.Fails)
                        throw new InvalidOperationException("Out of stock.");
                }),
                Tell(When(Emptied)).Finalize());
            SetCompletedWhenFinalized();

            static EventActivityBinder<BasketState, T> Tell<T>(EventActivityBinder<BasketState, T> on)
                where T : class => on.Publish(context => new BasketMoved(context.Saga.CorrelationId, context.Saga.Lines.Count));
        }

        public State Filling { get; } = null!;

        public Event<BasketBegun> Begun { get; } = null!;

        public Event<SkuAdded> Added { get; } = null!;

        public Event<BasketEmptied> Emptied { get; } = null!;

        private static void Add(BasketState basket, SkuAdded added)
        {
            if (basket.Lines.Find(line => line.Sku == added.Sku) is { } line)
                line.Quantity += added.Quantity;
            else
                basket.Lines.Add(new BasketLine { Sku = added.Sku, Quantity = added.Quantity });
        }
    }
}
