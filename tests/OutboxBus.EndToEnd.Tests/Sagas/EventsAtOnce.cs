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

// Whatever arrives at once for one instance: each event counts once, and the messages tell what is stored.
public sealed class EventsAtOnce
{
    private const int Events = 20;
    private const int Duplicate = 301;

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, SagaConcurrency.Optimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last, SagaConcurrency.Optimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, SagaConcurrency.Pessimistic)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last, SagaConcurrency.Pessimistic)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First, SagaConcurrency.Pessimistic)]
    public async Task Every_event_for_one_instance_counts_once(StackKind kind, InboxMode mode, SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync<OrderMachine>(stack, concurrency, retries: concurrency == SagaConcurrency.Optimistic ? Events : 0);
        var order = Guid.NewGuid();
        await app.PublishAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>();

        await Task.WhenAll(Enumerable.Range(0, Events).Select(_ => app.PublishDirectlyAsync(new StepTaken(order))));

        await app.Probe.SeesAsync<OrderMoved>(1 + Events);
        await app.SettledAsync(stack);
        await AssertStepsAsync(stack, app, order, 1 + Events);
        if (concurrency == SagaConcurrency.Pessimistic)
            app.Probe.Of("attempt").Should().HaveCount(1 + Events, "who waits for the row need not try again");
    }

    // The row's version lets the second of two writers fail.
    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task Of_two_events_that_have_loaded_one_instance_the_second_is_retried(InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq, mode);
        await using var app = await StartAsync<OrderMachine>(stack, null, retries: 1, meetingAt: EntityState.Modified);
        var order = Guid.NewGuid();
        await app.PublishAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>();

        await Task.WhenAll(app.PublishDirectlyAsync(new StepTaken(order)), app.PublishDirectlyAsync(new StepTaken(order)));

        await app.Probe.SeesAsync<OrderMoved>(3);
        await app.SettledAsync(stack);
        await AssertStepsAsync(stack, app, order, 3);
        app.Probe.Of("attempt").Select(sighting => sighting.What).Should().Equal(0, 0, 0, 1);
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task Of_two_events_that_have_loaded_one_instance_the_second_fails_without_a_trace_where_nothing_retries(InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq, mode);
        await using var app = await StartAsync<OrderMachine>(stack, SagaConcurrency.Optimistic, retries: 0, meetingAt: EntityState.Modified);
        var order = Guid.NewGuid();
        await app.PublishAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>();

        await Task.WhenAll(app.PublishDirectlyAsync(new StepTaken(order)), app.PublishDirectlyAsync(new StepTaken(order)));

        await app.Probe.SeesAsync<Fault<StepTaken>>();
        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<Fault<StepTaken>>().Should().ContainSingle().Which.Exceptions[0].ExceptionType.Should().Be(typeof(DbUpdateConcurrencyException).FullName);
        await app.PublishDirectlyAsync(new StepTaken(order));
        await app.Probe.SeesAsync<OrderMoved>(3);
        await app.SettledAsync(stack);
        (await StepsAsync(stack, order)).Should().Be(3);
        app.Probe.Seen<OrderMoved>().Select(moved => moved.Steps).Should().Equal(1, 2, 3);
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task Of_two_events_that_begin_one_instance_at_once_the_second_is_retried_and_finds_it(InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq, mode);
        await using var app = await StartAsync<OrderMachine>(stack, null, retries: 1, meetingAt: EntityState.Added);
        var order = Guid.NewGuid();

        await Task.WhenAll(app.PublishDirectlyAsync(new OrderOpened(order)), app.PublishDirectlyAsync(new OrderOpened(order)));

        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.SettledAsync(stack);
        await AssertStepsAsync(stack, app, order, 2);
        app.Probe.Of("attempt").Select(sighting => sighting.What).Should().Equal(0, 0, 1);
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task Of_two_events_that_insert_one_instance_at_once_the_second_waits_and_finds_it(InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq, mode);
        await using var app = await StartAsync<EagerOrderMachine>(stack, SagaConcurrency.Pessimistic, retries: 0, meetingAt: EntityState.Added);
        var order = Guid.NewGuid();

        await Task.WhenAll(app.PublishDirectlyAsync(new OrderOpened(order)), app.PublishDirectlyAsync(new OrderOpened(order)));

        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.SettledAsync(stack);
        await AssertStepsAsync(stack, app, order, 2);
        app.Probe.Of("attempt").Should().HaveCount(2, "who waits at the insert need not try again");
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First)]
    public async Task An_instance_inserted_early_is_gone_if_its_event_fails_and_counts_once_if_that_is_copied(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync<EagerOrderMachine>(stack, SagaConcurrency.Pessimistic, retries: 0);
        var (order, unborn, id) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());

        await app.PublishDirectlyAsync(new OrderOpened(unborn, FailingAttempts: 1));
        await app.Probe.SeesAsync<Fault<OrderOpened>>();
        for (var copy = 0; copy < 3; copy++)
            await app.PublishDirectlyAsync(new OrderOpened(order), id);

        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "two copies were recognised");
        await app.Probe.SeesAsync<OrderMoved>();
        await app.SettledAsync(stack);
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(1);
        app.Probe.Seen<OrderMoved>().Should().Equal(new OrderMoved(order, 1));
        (await StepsAsync(stack, order)).Should().Be(1);
    }

    [SkippableTheory]
    [InlineData(InboxMode.First, SagaConcurrency.Optimistic)]
    [InlineData(InboxMode.Last, SagaConcurrency.Optimistic)]
    [InlineData(InboxMode.First, SagaConcurrency.Pessimistic)]
    [InlineData(InboxMode.Last, SagaConcurrency.Pessimistic)]
    public async Task Copies_of_one_event_at_once_move_its_instance_once_without_a_fault(InboxMode mode, SagaConcurrency concurrency)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq, mode);
        await using var app = await StartAsync<OrderMachine>(stack, concurrency, retries: 0);
        var (order, opening) = (Guid.NewGuid(), Guid.NewGuid());

        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => app.PublishDirectlyAsync(new OrderOpened(order), opening)));
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 7, "seven copies of the first event were recognised");
        for (var step = 0; step < 3; step++)
        {
            var id = Guid.NewGuid();
            await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => app.PublishDirectlyAsync(new StepTaken(order), id)));
            await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 7 * (step + 2), "seven copies of each event were recognised");
        }

        await app.Probe.SeesAsync<OrderMoved>(4);
        await app.SettledAsync(stack);
        await AssertStepsAsync(stack, app, order, 4);
    }

    private static Task<App> StartAsync<TMachine>(Stack stack, SagaConcurrency? concurrency, int retries, EntityState? meetingAt = null)
        where TMachine : class, SagaStateMachine<OrderState> => App.StartMassTransitAsync(
            stack,
            bus =>
            {
                bus.AddSagaStateMachine<TMachine, OrderState>(saga =>
                    {
                        if (retries > 0)
                            saga.UseMessageRetry(retry => retry.Immediate(retries));
                    })
                    .OutboxBusRepository<OrderState, ShopDb>(repository => repository.Concurrency = concurrency)
                    .Endpoint(endpoint =>
                    {
                        endpoint.Name = "order";
                        endpoint.ConcurrentMessageLimit = 8;
                    });
                bus.Watch<OrderMoved>();
                bus.Watch<Fault<OrderOpened>>();
                bus.Watch<Fault<StepTaken>>();
            },
            services: services =>
            {
                if (meetingAt is not { } state)
                    return;
                var meeting = new Meeting<OrderState>(state);
                services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(meeting));
            });

    private static async Task AssertStepsAsync(Stack stack, App app, Guid order, int steps)
    {
        (await StepsAsync(stack, order)).Should().Be(steps);
        app.Probe.Seen<OrderMoved>().Select(moved => moved.Steps).Should().BeEquivalentTo(Enumerable.Range(1, steps));
        app.Probe.Seen<Fault<OrderOpened>>().Should().BeEmpty();
        app.Probe.Seen<Fault<StepTaken>>().Should().BeEmpty();
    }

    private static Task<int> StepsAsync(Stack stack, Guid order)
        => stack.ReadAsync(db => db.Set<OrderState>().Where(saga => saga.CorrelationId == order).Select(saga => saga.Steps).SingleAsync());
}
