using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// What state machines can do besides moving: composite, ignored and unhandled events, caught exceptions, activities, timeouts.
public sealed class StateMachines
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    public static TheoryData<StackKind> Kinds => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_composite_event_is_raised_once_when_the_last_of_its_events_has_come_whatever_is_copied(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (order, paid, packed) = (await BeginAsync(app), Guid.NewGuid(), Guid.NewGuid());

        for (var copy = 0; copy < 2; copy++)
            await app.PublishDirectlyAsync(new Packed(order), packed);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 1, "the copy of the one event was recognised");
        (await StateAsync(stack, order)).Should().Be(nameof(FulfilmentMachine.Open));
        for (var copy = 0; copy < 2; copy++)
            await app.PublishDirectlyAsync(new Paid(order), paid);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "the copy of the other was recognised");

        await app.Probe.SeesAsync<Told>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<Told>().Should().Equal(new Told(order, "begun"), new Told(order, "ready"));
        (await StateAsync(stack, order)).Should().Be(nameof(FulfilmentMachine.Ready));
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task A_composite_event_is_raised_once_if_the_last_of_its_events_come_at_once(InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(StackKind.PostgreSqlRabbitMq, mode);
        var meeting = new Meeting<OrderState>(EntityState.Modified);
        await using var app = await StartAsync(stack, services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(meeting)));
        var order = await BeginAsync(app);

        await Task.WhenAll(app.PublishDirectlyAsync(new Paid(order)), app.PublishDirectlyAsync(new Packed(order)));

        await app.Probe.SeesAsync<Told>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<Told>().Should().Equal(new Told(order, "begun"), new Told(order, "ready"));
        (await StateAsync(stack, order)).Should().Be(nameof(FulfilmentMachine.Ready));
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task An_ignored_event_counts_as_consumed_and_an_unhandled_one_fails_without_a_trace(StackKind kind)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind);
        await using var app = await StartAsync(stack);
        var order = await BeginAsync(app);

        await app.PublishAsync(new Looked(order));
        await app.PublishAsync(new Begun(order));

        await app.Probe.SeesAsync<Fault<Begun>>();
        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState)))), count => count == 2, "the ignored event counts as consumed");
        app.Probe.Seen<Fault<Begun>>().Should().ContainSingle().Which.Exceptions[0].ExceptionType.Should().Be(typeof(NotAcceptedStateMachineException).FullName);
        app.Probe.Seen<Told>().Should().Equal(new Told(order, "begun"));
        (await StateAsync(stack, order)).Should().Be(nameof(FulfilmentMachine.Open));
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            await Eventually.BecomesAsync(() => broker.CountAsync("fulfilment_error"), count => count == 1, "the unhandled event is in the error queue");
            (await broker.CountAsync("fulfilment_skipped")).Should().BeNull();
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_exception_the_machine_catches_is_part_of_the_transaction_and_one_it_does_not_catch_ends_it(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (caught, uncaught) = (await BeginAsync(app), await BeginAsync(app));

        await app.PublishAsync(new Risked(uncaught, IsCaught: false));
        await app.Probe.SeesAsync<Fault<Risked>>();
        await app.PublishAsync(new Risked(caught, IsCaught: true));

        await app.Probe.SeesAsync<Told>(4);
        await app.SettledAsync(stack);
        app.Probe.Seen<Told>().Skip(2).Should().BeEquivalentTo([new Told(caught, "risked"), new Told(caught, "caught")]);
        app.Probe.Seen<Fault<Risked>>().Should().ContainSingle();
        (await StateAsync(stack, caught)).Should().Be(nameof(FulfilmentMachine.Failed));
        (await StateAsync(stack, uncaught)).Should().Be(nameof(FulfilmentMachine.Open));
        (await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync(saga => saga.CorrelationId == caught))).Note.Should().Be("Bad luck.");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_activity_gets_the_context_and_the_publishers_of_the_sagas_transaction(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = await BeginAsync(app);

        await app.PublishAsync(new Noted(order, FailingAttempts: 2));
        await app.Probe.SeesAsync<Fault<Noted>>();
        await app.PublishAsync(new Noted(order, FailingAttempts: 1));

        await app.Probe.SeesAsync<Told>(5);
        await app.SettledAsync(stack);
        app.Probe.Of("noting").Should().HaveCount(4);
        app.Probe.Seen<Told>().Skip(1).Should().BeEquivalentTo([new Told(order, "IPublishEndpoint"), new Told(order, "ISendEndpointProvider"), new Told(order, "IOutboxContext"), new Told(order, "context")]);
        (await stack.EffectsAsync()).Should().Be(1);
        (await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync())).Note.Should().Be("noted");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_event_that_is_scheduled_comes_once_and_only_if_its_transaction_committed(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = await BeginAsync(app);

        await app.PublishAsync(new ReminderAsked(order, FailingAttempts: 2));
        await app.Probe.SeesAsync<Fault<ReminderAsked>>();
        await app.PublishAsync(new ReminderAsked(order, FailingAttempts: 1));

        await app.Probe.SeesAsync<Told>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<Told>().Should().Equal(new Told(order, "begun"), new Told(order, "reminded"));
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_event_scheduled_anew_or_taken_back_never_comes_by_its_first_schedule(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = await BeginAsync(app);

        await app.PublishAsync(new ReminderAsked(order, FailingAttempts: 0, Seconds: 3600));
        var first = (await WaitingAsync(rows => rows.Count == 1)).Single();
        await app.PublishAsync(new ReminderAsked(order, FailingAttempts: 1, Seconds: 7200));
        var second = (await WaitingAsync(rows => rows.Count == 1 && rows[0] != first)).Single();
        await app.PublishAsync(new ReminderDropped(order, FailingAttempts: 2));
        await app.Probe.SeesAsync<Fault<ReminderDropped>>();
        (await WaitingAsync(_ => true)).Should().Equal([second], "what failed has taken nothing back");
        await app.PublishAsync(new ReminderDropped(order, FailingAttempts: 1));

        await WaitingAsync(rows => rows.Count == 0);
        await app.SettledAsync(stack);
        app.Probe.Seen<Told>().Should().Equal(new Told(order, "begun"));

        Task<List<Guid>> WaitingAsync(Func<List<Guid>, bool> expected) => Eventually.BecomesAsync(
            () => stack.ReadAsync(db => db.Outbox.Where(row => row.DueAt != null).Select(row => row.MessageId).ToListAsync()), expected, "the scheduled messages are as expected");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_instance_is_removed_with_what_entering_its_last_state_publishes(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (order, once) = (await BeginAsync(app), Guid.NewGuid());

        await app.PublishAsync(new Ended(order));
        // Begins and ends: its row never exists.
        await app.PublishAsync(new Begun(once, Ends: true));

        await app.Probe.SeesAsync<Told>(3);
        await app.SettledAsync(stack);
        app.Probe.Seen<Told>().Should().BeEquivalentTo([new Told(order, "begun"), new Told(order, "ended"), new Told(once, "ended")]);
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(0);
        (await stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(OrderState))))).Should().Be(3);
    }

    private static Task<App> StartAsync(Stack stack, Action<IServiceCollection>? services = null) => App.StartMassTransitAsync(
        stack,
        bus =>
        {
            bus.AddSagaStateMachine<FulfilmentMachine, OrderState>(saga => saga.UseMessageRetry(retry =>
            {
                retry.Ignore<NotAcceptedStateMachineException>();
                retry.Immediate(1);
            })).Endpoint(endpoint => endpoint.Name = "fulfilment");
            bus.Watch<Told>();
            bus.Watch<Fault<Begun>>();
            bus.Watch<Fault<Risked>>();
            bus.Watch<Fault<Noted>>();
            bus.Watch<Fault<ReminderAsked>>();
            bus.Watch<Fault<ReminderDropped>>();
        },
        services: services);

    private static async Task<Guid> BeginAsync(App app)
    {
        var (order, told) = (Guid.NewGuid(), app.Probe.Seen<Told>().Count);
        await app.PublishAsync(new Begun(order));
        await app.Probe.SeesAsync<Told>(told + 1);
        return order;
    }

    private static Task<string> StateAsync(Stack stack, Guid order)
        => stack.ReadAsync(db => db.Set<OrderState>().Where(saga => saga.CorrelationId == order).Select(saga => saga.CurrentState).SingleAsync());

    public sealed record Begun(Guid OrderId, bool Ends = false);

    public sealed record Paid(Guid OrderId);

    public sealed record Packed(Guid OrderId);

    public sealed record Looked(Guid OrderId);

    public sealed record Risked(Guid OrderId, bool IsCaught);

    public sealed record Noted(Guid OrderId, int FailingAttempts);

    public sealed record ReminderAsked(Guid OrderId, int FailingAttempts, int Seconds = 0);

    public sealed record ReminderDropped(Guid OrderId, int FailingAttempts);

    public sealed record Reminded(Guid OrderId);

    public sealed record Ended(Guid OrderId);

    /// <summary>Published by the machine.</summary>
    public sealed record Told(Guid OrderId, string What);

    public sealed class FulfilmentMachine : MassTransitStateMachine<OrderState>
    {
        public FulfilmentMachine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => OnBegun, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnPaid, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnPacked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnLooked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnRisked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnNoted, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnReminderAsked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnReminderDropped, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnEnded, on => on.CorrelateById(context => context.Message.OrderId));
            Schedule(() => Reminder, saga => saga.ReminderId, schedule =>
            {
                schedule.Received = on => on.CorrelateById(context => context.Message.OrderId);
            });

            Initially(When(OnBegun).IfElse(
                context => context.Message.Ends,
                ends => ends.Finalize(),
                begins => Tell(begins, "begun").TransitionTo(Open)));
            During(
                Open,
                Ignore(OnLooked),
                Tell(When(OnRisked).Then(context => context.Saga.Note = "risked"), "risked")
                    .Then(context => throw (context.Message.IsCaught ? new ArithmeticException("Bad luck.") : new InvalidOperationException("Worse luck.")))
                    .TransitionTo(Ready)
                    .Catch<ArithmeticException>(caught => caught
                        .Then(context => context.Saga.Note = context.Exception.Message)
                        .Publish(context => new Told(context.Saga.CorrelationId, "caught"))
                        .TransitionTo(Failed)),
                When(OnNoted).Activity(activity => activity.OfType<NotingActivity>()),
                When(OnReminderAsked)
                    .Schedule(Reminder, context => new Reminded(context.Saga.CorrelationId), context => TimeSpan.FromSeconds(context.Message.Seconds))
                    .Then(context => FailFirst(context, context.Message.FailingAttempts)),
                When(OnReminderDropped)
                    .Unschedule(Reminder)
                    .Then(context => FailFirst(context, context.Message.FailingAttempts)),
                Tell(When(Reminder.Received), "reminded"),
                When(OnEnded).Finalize());
            CompositeEvent(() => OnReady, saga => saga.Ready, OnPaid, OnPacked);
            During(Open, When(OnReady).Publish(context => new Told(context.Saga.CorrelationId, "ready")).TransitionTo(Ready));
            WhenEnter(Final, entered => entered.Publish(context => new Told(context.Saga.CorrelationId, "ended")));
            SetCompletedWhenFinalized();

            static EventActivityBinder<OrderState, T> Tell<T>(EventActivityBinder<OrderState, T> on, string what)
                where T : class => on.Publish(context => new Told(context.Saga.CorrelationId, what));
        }

        public State Open { get; } = null!;

        public State Ready { get; } = null!;

        public State Failed { get; } = null!;

        public Event<Begun> OnBegun { get; } = null!;

        public Event<Paid> OnPaid { get; } = null!;

        public Event<Packed> OnPacked { get; } = null!;

        public Event OnReady { get; } = null!;

        public Event<Looked> OnLooked { get; } = null!;

        public Event<Risked> OnRisked { get; } = null!;

        public Event<Noted> OnNoted { get; } = null!;

        public Event<ReminderAsked> OnReminderAsked { get; } = null!;

        public Event<ReminderDropped> OnReminderDropped { get; } = null!;

        public Schedule<OrderState, Reminded> Reminder { get; } = null!;

        public Event<Ended> OnEnded { get; } = null!;

        public static void FailFirst(PipeContext context, int attempts)
        {
            if (((ConsumeContext)context).GetRetryAttempt() < attempts)
                throw new InvalidOperationException("This attempt fails.");
        }
    }

    public sealed class NotingActivity(ShopDb db, IPublishEndpoint publisher, ISendEndpointProvider sender, IOutboxContext outbox, Probe probe) : IStateMachineActivity<OrderState, Noted>
    {
        public async Task Execute(BehaviorContext<OrderState, Noted> context, IBehavior<OrderState, Noted> next)
        {
            probe.Saw("noting");
            var order = context.Saga.CorrelationId;
            context.Saga.Note = "noted";
            db.Add(new Effect { OrderId = order, By = "noting" });
            await publisher.Publish(new Told(order, "IPublishEndpoint"));
            await (await sender.GetSendEndpoint(new Uri("queue:watch"))).Send(new Told(order, "ISendEndpointProvider"));
            await outbox.Publish(new Told(order, "IOutboxContext"));
            await db.SaveChangesAsync();
            await context.Publish(new Told(order, "context"));
            FulfilmentMachine.FailFirst(context, context.Message.FailingAttempts);
            await next.Execute(context);
        }

        public Task Faulted<TException>(BehaviorExceptionContext<OrderState, Noted, TException> context, IBehavior<OrderState, Noted> next)
            where TException : Exception => next.Faulted(context);

        public void Accept(StateMachineVisitor visitor) => visitor.Visit(this);

        public void Probe(ProbeContext context) => context.CreateScope("noting");
    }
}
