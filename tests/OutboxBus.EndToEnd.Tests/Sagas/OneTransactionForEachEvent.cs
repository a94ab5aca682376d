using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// An instance's state, the messages it published and the record that the event was consumed: all three, or none.
public sealed class OneTransactionForEachEvent
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
        { StackKind.SqliteInMemory, InboxMode.Last },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_instance_is_inserted_updated_and_removed_with_the_messages_of_its_events(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = Guid.NewGuid();

        await app.PublishAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>(1);
        await AssertStateAsync(stack, order, nameof(OrderMachine.Open), steps: 1);
        await app.PublishAsync(new StepTaken(order));
        await app.Probe.SeesAsync<OrderMoved>(2);
        await AssertStateAsync(stack, order, nameof(OrderMachine.Open), steps: 2);
        await app.PublishAsync(new OrderClosed(order));
        await app.Probe.SeesAsync<OrderMoved>(3);

        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(0, "a message of the last event arrives after its commit");
        await app.SettledAsync(stack);
        app.Probe.Seen<OrderMoved>().Should().Equal(new OrderMoved(order, 1), new OrderMoved(order, 2), new OrderMoved(order, 3));
        (await RecordsAsync(stack)).Should().Be(3);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_event_that_always_fails_leaves_no_state_and_no_message_and_is_reported_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack, retries: 2);
        var (order, unborn) = (Guid.NewGuid(), Guid.NewGuid());

        await app.PublishAsync(new OrderOpened(order));
        await app.Probe.SeesAsync<OrderMoved>(1);
        await app.PublishAsync(new StepTaken(order, FailingAttempts: 3));
        await app.Probe.SeesAsync<Fault<StepTaken>>();
        await app.PublishAsync(new OrderOpened(unborn, FailingAttempts: 3));
        await app.Probe.SeesAsync<Fault<OrderOpened>>();
        await app.PublishAsync(new StepTaken(order));
        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.SettledAsync(stack);

        app.Probe.Of("attempt").Select(sighting => sighting.What).Should().Equal(0, 0, 1, 2, 0, 1, 2, 0);
        app.Probe.Seen<OrderMoved>().Should().Equal(new OrderMoved(order, 1), new OrderMoved(order, 2));
        app.Probe.Seen<Fault<StepTaken>>().Should().ContainSingle().Which.Cause().Should().Be("This attempt fails.");
        app.Probe.Seen<Fault<OrderOpened>>().Should().ContainSingle();
        await AssertStateAsync(stack, order, nameof(OrderMachine.Open), steps: 2);
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(1);
        (await RecordsAsync(stack)).Should().Be(2);
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            await Eventually.BecomesAsync(() => broker.CountAsync("order_error"), count => count == 2, "both events are in the error queue");
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_event_that_fails_twice_moves_its_instance_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack, retries: 2);
        var order = Guid.NewGuid();

        await app.PublishAsync(new OrderOpened(order, FailingAttempts: 2));
        await app.Probe.SeesAsync<OrderMoved>(1);
        await app.PublishAsync(new StepTaken(order, FailingAttempts: 2));
        await app.Probe.SeesAsync<OrderMoved>(2);
        await app.SettledAsync(stack);

        app.Probe.Of("attempt").Select(sighting => sighting.What).Should().Equal(0, 1, 2, 0, 1, 2);
        app.Probe.Seen<OrderMoved>().Should().Equal(new OrderMoved(order, 1), new OrderMoved(order, 2));
        app.Probe.Seen<Fault<StepTaken>>().Should().BeEmpty();
        await AssertStateAsync(stack, order, nameof(OrderMachine.Open), steps: 2);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Copies_of_an_event_do_nothing_whether_it_began_moved_or_ended_the_instance(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = Guid.NewGuid();

        await PublishThreeTimesAsync(app, new OrderOpened(order), duplicates: 2);
        await PublishThreeTimesAsync(app, new StepTaken(order), duplicates: 4);
        await AssertStateAsync(stack, order, nameof(OrderMachine.Open), steps: 2);
        await PublishThreeTimesAsync(app, new OrderClosed(order), duplicates: 6);

        await app.Probe.SeesAsync<OrderMoved>(3);
        await app.SettledAsync(stack);
        app.Probe.Seen<OrderMoved>().Should().Equal(new OrderMoved(order, 1), new OrderMoved(order, 2), new OrderMoved(order, 3));
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(0);
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            await Eventually.BecomesAsync(async () => await broker.CountAsync("order") == 0, "every copy is acknowledged");
            (await broker.CountAsync("order_skipped")).Should().BeNull();
            (await broker.CountAsync("order_error")).Should().BeNull();
        }
    }

    private static Task<App> StartAsync(Stack stack, int retries = 0) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddSagaStateMachine<OrderMachine, OrderState>(saga =>
        {
            if (retries > 0)
                saga.UseMessageRetry(retry => retry.Immediate(retries));
        }).Endpoint(endpoint => endpoint.Name = "order");
        bus.Watch<OrderMoved>();
        bus.Watch<Fault<OrderOpened>>();
        bus.Watch<Fault<StepTaken>>();
    });

    private static async Task PublishThreeTimesAsync<T>(App app, T message, int duplicates)
        where T : class
    {
        var id = Guid.NewGuid();
        for (var delivery = 0; delivery < 3; delivery++)
            await app.PublishDirectlyAsync(message, id);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == duplicates, $"{duplicates} copies were recognised");
    }

    private static async Task AssertStateAsync(Stack stack, Guid order, string state, int steps)
    {
        var saga = await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync(saga => saga.CorrelationId == order));
        saga.CurrentState.Should().Be(state);
        saga.Steps.Should().Be(steps);
    }

    private static Task<int> RecordsAsync(Stack stack) => stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState))));
}
