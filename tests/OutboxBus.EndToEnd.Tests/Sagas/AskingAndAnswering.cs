using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// A conversation of a saga is made of messages like any other: questions and answers leave with the state that knows of them.
public sealed class AskingAndAnswering
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
    public async Task A_saga_answers_once_its_state_is_stored_and_tells_of_its_failure_otherwise(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var client = Client<QuoteAsked>(app);
        var (order, unborn) = (Guid.NewGuid(), Guid.NewGuid());

        var fault = (await client.Awaiting(self => self.GetResponse<QuoteBegun>(new QuoteAsked(unborn, FailingAttempts: 2))).Should().ThrowAsync<RequestFaultException>()).Which;
        fault.Fault!.Cause().Should().Be("This attempt fails.");
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(0);

        var answer = await client.GetResponse<QuoteBegun>(new QuoteAsked(order, FailingAttempts: 1));
        answer.Message.Should().Be(new QuoteBegun(order));
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(1, "the answer left after the commit");
        app.Probe.Of("attempt").Should().HaveCount(4);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_question_of_a_saga_is_asked_once_and_its_answer_moves_the_saga_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (order, id) = (Guid.NewGuid(), Guid.NewGuid());

        for (var copy = 0; copy < 2; copy++)
            await app.PublishDirectlyAsync(new QuoteAsked(order, FailingAttempts: 1), id);

        await app.Probe.SeesAsync<QuoteTold>();
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 1, "the copy was recognised");
        await app.SettledAsync(stack);
        app.Probe.Of("price").Should().ContainSingle();
        app.Probe.Seen<QuoteTold>().Should().Equal(new QuoteTold(order, "12.5"));
        var saga = await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync());
        (saga.CurrentState, saga.Note, saga.PriceRequestId).Should().Be((nameof(QuoteMachine.Priced), "12.5", null));
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_question_that_fails_moves_the_saga_too(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);

        await app.PublishAsync(new QuoteAsked(PriceConsumer.Priceless));

        await app.Probe.SeesAsync<QuoteTold>();
        await app.SettledAsync(stack);
        app.Probe.Seen<QuoteTold>().Should().Equal(new QuoteTold(PriceConsumer.Priceless, "No price."));
        (await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync())).CurrentState.Should().Be(nameof(QuoteMachine.Unpriced));
    }

    // The consumer replies to what the saga's first event published, before anybody could know that event as consumed.
    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_reply_to_what_the_first_event_published_and_the_fault_of_what_was_sent_find_the_instance(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var orders = Enumerable.Range(0, 10).Select(_ => Guid.NewGuid()).ToList();

        await Task.WhenAll(orders.Select(order => app.PublishAsync(new DeliveryAsked(order, Fails: orders.IndexOf(order) % 2 == 0))));

        await app.Probe.SeesAsync<QuoteTold>(10);
        await app.SettledAsync(stack);
        app.Probe.Seen<QuoteTold>().Should().BeEquivalentTo(orders.Select(order => new QuoteTold(order, orders.IndexOf(order) % 2 == 0 ? "No lorry." : "delivered")));
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync(saga => saga.CurrentState == nameof(QuoteMachine.Priced)))).Should().Be(5);
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync(saga => saga.CurrentState == nameof(QuoteMachine.Unpriced)))).Should().Be(5);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_read_only_event_is_answered_and_changes_nothing(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var order = Guid.NewGuid();
        await app.PublishAsync(new QuoteAsked(order));
        await app.Probe.SeesAsync<QuoteTold>();
        var before = await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync());

        for (var question = 0; question < 2; question++)
            (await Client<StatusAsked>(app).GetResponse<StatusTold>(new StatusAsked(order))).Message.Should().Be(new StatusTold(order, nameof(QuoteMachine.Priced), 1));

        var after = await stack.ReadAsync(db => db.Set<OrderState>().SingleAsync());
        after.Should().BeEquivalentTo(before, "its row has not been written, or its version would have changed");
    }

    private static Task<App> StartAsync(Stack stack) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddSagaStateMachine<QuoteMachine, OrderState>(saga => saga.UseMessageRetry(retry => retry.Immediate(1)));
        bus.AddConsumer<PriceConsumer>();
        bus.AddConsumer<LorryConsumer>().Endpoint(endpoint => endpoint.Name = "lorry");
        bus.Watch<QuoteTold>();
    });

    private static IRequestClient<T> Client<T>(App app)
        where T : class => app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30)).CreateRequestClient<T>();

    public sealed record QuoteAsked(Guid OrderId, int FailingAttempts = 0);

    public sealed record QuoteBegun(Guid OrderId);

    public sealed record QuoteTold(Guid OrderId, string What);

    public sealed record DeliveryAsked(Guid OrderId, bool Fails);

    public sealed record Deliver(Guid OrderId, bool Fails);

    public sealed record Delivered(Guid OrderId);

    public sealed record StatusAsked(Guid OrderId);

    public sealed record StatusTold(Guid OrderId, string State, int Steps);

    public sealed class QuoteMachine : MassTransitStateMachine<OrderState>
    {
        public QuoteMachine(Probe probe)
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => OnAsked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnDeliveryAsked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnDelivered, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnUndelivered, on => on.CorrelateById(context => context.Message.Message.OrderId));
            Event(() => OnStatusAsked, on =>
            {
                on.CorrelateById(context => context.Message.OrderId);
                on.ReadOnly = true;
            });
            Request(() => Price, saga => saga.PriceRequestId, request => request.Timeout = TimeSpan.Zero);

            Initially(
                When(OnAsked)
                    .Respond(context => new QuoteBegun(context.Saga.CorrelationId))
                    .Request(Price, context => new PriceAsked(context.Saga.CorrelationId))
                    .Then(context =>
                    {
                        probe.Saw("attempt");
                        if (context.GetRetryAttempt() < context.Message.FailingAttempts)
                            throw new InvalidOperationException("This attempt fails.");
                    })
                    .TransitionTo(Price.Pending),
                When(OnDeliveryAsked)
                    .Send(new Uri("queue:lorry"), context => new Deliver(context.Saga.CorrelationId, context.Message.Fails))
                    .TransitionTo(Sent));
            During(
                Price.Pending,
                When(Price.Completed)
                    .Then(context => (context.Saga.Note, context.Saga.Steps) = (FormattableString.Invariant($"{context.Message.Price}"), 1))
                    .Publish(context => new QuoteTold(context.Saga.CorrelationId, context.Saga.Note!))
                    .TransitionTo(Priced),
                When(Price.Faulted)
                    .Publish(context => new QuoteTold(context.Saga.CorrelationId, context.Message.Exceptions[0].Message))
                    .TransitionTo(Unpriced));
            During(
                Sent,
                When(OnDelivered).Publish(context => new QuoteTold(context.Saga.CorrelationId, "delivered")).TransitionTo(Priced),
                When(OnUndelivered).Publish(context => new QuoteTold(context.Saga.CorrelationId, context.Message.Exceptions[0].Message)).TransitionTo(Unpriced));
            DuringAny(When(OnStatusAsked)
                .Respond(context => new StatusTold(context.Saga.CorrelationId, context.Saga.CurrentState, context.Saga.Steps))
                .Then(context => context.Saga.Steps++));
        }

        public State Priced { get; } = null!;

        public State Unpriced { get; } = null!;

        public State Sent { get; } = null!;

        public Request<OrderState, PriceAsked, PriceTold> Price { get; } = null!;

        public Event<QuoteAsked> OnAsked { get; } = null!;

        public Event<DeliveryAsked> OnDeliveryAsked { get; } = null!;

        public Event<Delivered> OnDelivered { get; } = null!;

        public Event<Fault<Deliver>> OnUndelivered { get; } = null!;

        public Event<StatusAsked> OnStatusAsked { get; } = null!;
    }

    public sealed class PriceConsumer(Probe probe) : IConsumer<PriceAsked>
    {
        public static readonly Guid Priceless = new("11111111-1111-1111-1111-111111111111");

        public Task Consume(ConsumeContext<PriceAsked> context)
        {
            probe.Saw("price");
            return context.Message.OrderId == Priceless
                ? throw new InvalidOperationException("No price.")
                : context.RespondAsync(new PriceTold(context.Message.OrderId, 12.5m));
        }
    }

    public sealed class LorryConsumer : IConsumer<Deliver>
    {
        public Task Consume(ConsumeContext<Deliver> context) => context.Message.Fails
            ? throw new InvalidOperationException("No lorry.")
            : context.Publish(new Delivered(context.Message.OrderId));
    }
}
