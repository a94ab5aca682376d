using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Scheduling;

// A timeout comes unless it was unscheduled, and counts only if it is the last that was scheduled.
public sealed class TimeoutsOfStateMachines
{
    private const int Delivered = 205;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_timeout_that_is_unscheduled_never_comes_and_one_that_is_not_does(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (paid, forgotten) = (await BeginAsync(app), await BeginAsync(app));
        (await TimeoutsAsync(stack)).Should().HaveCount(2);

        await app.PublishAsync(new Paid(paid, FailsAlways: true));
        await app.Probe.SeesAsync<Fault<Paid>>();
        (await TimeoutsAsync(stack)).Should().HaveCount(2, "the event that failed has unscheduled nothing");
        await app.PublishAsync(new Paid(paid));
        await app.Probe.SeesAsync<Told>(3);
        var left = (await ReadAsync(stack, forgotten)).ReminderId!.Value;
        (await TimeoutsAsync(stack)).Should().Equal([left], "the paid order has none");
        await TimeComesAsync(stack);

        await app.Probe.SeesAsync<Told>(4);
        await stack.DrainedAsync();
        app.Probe.Seen<Told>().Skip(2).Should().Equal(new Told(paid, "paid"), new Told(forgotten, "timed out"));
        app.Logs.All.Count(line => line.EventId == Delivered && line.Text.Contains(nameof(TimedOut), StringComparison.Ordinal)).Should().Be(1);
        (await ReadAsync(stack, paid)).ReminderId.Should().BeNull();
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_timeout_on_its_way_when_it_was_replaced_is_ignored(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = await BeginAsync(app);
        var first = (await TimeoutsAsync(stack)).Single();
        await app.PublishAsync(new Extended(order));
        await app.Probe.SeesAsync<Told>(2);

        // As if delivery had taken it before it was cancelled.
        await app.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IOutboxContext>().Send(
                "timeouts", new TimedOut(order), new SendOptions { Headers = new Dictionary<string, object?> { [MessageHeaders.SchedulingTokenId] = $"{first}" } });
            await db.SaveChangesAsync();
        });
        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState)))), count => count == 3, "it was consumed");

        (await ReadAsync(stack, order)).CurrentState.Should().Be(nameof(TimeoutMachine.Open));
        await TimeComesAsync(stack);
        await app.Probe.SeesAsync<Told>(3);
        app.Probe.Seen<Told>().Should().Equal(new Told(order, "begun"), new Told(order, "extended"), new Told(order, "timed out"));
    }

    private static Task<App> StartAsync(Stack stack) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddSagaStateMachine<TimeoutMachine, OrderState>().Endpoint(endpoint => endpoint.Name = "timeouts");
        bus.Watch<Told>();
        bus.Watch<Fault<Paid>>();
    });

    private static async Task<Guid> BeginAsync(App app)
    {
        var (order, told) = (Guid.NewGuid(), app.Probe.Seen<Told>().Count);
        await app.PublishAsync(new Begun(order));
        await app.Probe.SeesAsync<Told>(told + 1);
        return order;
    }

    private static Task<OrderState> ReadAsync(Stack stack, Guid order) => stack.ReadAsync(db => db.Set<OrderState>().SingleAsync(saga => saga.CorrelationId == order));

    private static Task<List<Guid>> TimeoutsAsync(Stack stack)
        => stack.ReadAsync(db => db.Outbox.Where(row => row.MessageType.Contains(nameof(TimedOut))).Select(row => row.ScheduleToken!.Value).ToListAsync());

    private static async Task TimeComesAsync(Stack stack)
    {
        await using var db = stack.Open();
        await db.Outbox.ExecuteUpdateAsync(rows => rows.SetProperty(row => row.VisibleAt, DateTime.UnixEpoch));
    }

    public sealed record Begun(Guid OrderId);

    public sealed record Extended(Guid OrderId);

    public sealed record Paid(Guid OrderId, bool FailsAlways = false);

    public sealed record TimedOut(Guid OrderId);

    /// <summary>Published by the machine.</summary>
    public sealed record Told(Guid OrderId, string What);

    public sealed class TimeoutMachine : MassTransitStateMachine<OrderState>
    {
        public TimeoutMachine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => OnBegun, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnExtended, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnPaid, on => on.CorrelateById(context => context.Message.OrderId));
            Schedule(() => Timeout, saga => saga.ReminderId, schedule =>
            {
                schedule.Delay = TimeSpan.FromHours(1);
                schedule.Received = on => on.CorrelateById(context => context.Message.OrderId);
            });

            Initially(When(OnBegun)
                .Schedule(Timeout, context => new TimedOut(context.Saga.CorrelationId))
                .Publish(context => new Told(context.Saga.CorrelationId, "begun"))
                .TransitionTo(Open));
            During(
                Open,
                When(OnExtended)
                    .Schedule(Timeout, context => new TimedOut(context.Saga.CorrelationId), _ => TimeSpan.FromHours(2))
                    .Publish(context => new Told(context.Saga.CorrelationId, "extended")),
                When(OnPaid)
                    .Unschedule(Timeout)
                    .Then(context =>
                    {
                        if (context.Message.FailsAlways)
                            throw new InvalidOperationException("This event fails.");
                    })
                    .Publish(context => new Told(context.Saga.CorrelationId, "paid"))
                    .TransitionTo(Done),
                When(Timeout.Received)
                    .Publish(context => new Told(context.Saga.CorrelationId, "timed out"))
                    .TransitionTo(Done));
        }

        public State Open { get; } = null!;

        public State Done { get; } = null!;

        public Event<Begun> OnBegun { get; } = null!;

        public Event<Extended> OnExtended { get; } = null!;

        public Event<Paid> OnPaid { get; } = null!;

        public Schedule<OrderState, TimedOut> Timeout { get; } = null!;
    }
}
