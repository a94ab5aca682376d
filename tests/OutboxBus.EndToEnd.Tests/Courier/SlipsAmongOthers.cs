using FluentAssertions;
using MassTransit;
using MassTransit.Courier.Contracts;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Courier;

// Routing slips that are copied, retried, changed on their way, begun by a consumer, followed by a saga.
public sealed class SlipsAmongOthers
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
    public async Task A_slip_delivered_three_times_is_executed_and_compensated_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var id = Guid.NewGuid();
        var slip = Slip("fill", "fill", "spill");

        var endpoint = await app.Services.GetRequiredService<IBus>().GetSendEndpoint(slip.Itinerary[0].Address);
        for (var copy = 0; copy < 3; copy++)
            await endpoint.Send(slip, context => context.MessageId = id);

        await app.Probe.SeesAsync<RoutingSlipFaulted>();
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "two copies were recognised");
        await app.SettledAsync(stack);
        app.Probe.Seen<RoutingSlipFaulted>().Should().ContainSingle();
        app.Probe.Seen<RoutingSlipActivityCompleted>().Should().HaveCount(2);
        app.Probe.Seen<RoutingSlipActivityCompensated>().Should().HaveCount(2);
        (await EffectsAsync(stack)).Should().Equal("fill", "fill", "unfill", "unfill");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_retry_on_the_endpoint_starts_the_activity_afresh_and_ends_in_one_fault_of_the_slip(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack, retries: 1);

        await ExecuteAsync(app, "fill", "stumble", "spill");

        await app.Probe.SeesAsync<RoutingSlipFaulted>();
        await app.SettledAsync(stack);
        app.Probe.Of("stumble").Should().HaveCount(2);
        app.Probe.Seen<RoutingSlipFaulted>().Should().ContainSingle().Which.ActivityExceptions.Should().ContainSingle().Which.ExceptionInfo.Message.Should().Be("Spilled.");
        (await EffectsAsync(stack)).Should().Equal("fill", "stumble", "unfill", "unfill");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_slip_may_be_extended_and_ended_by_its_activities_and_carries_their_variables(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);

        await ExecuteAsync(app, "extend", "fill");
        await app.Probe.SeesAsync<RoutingSlipCompleted>();
        await ExecuteAsync(app, "fill", "end", "fill");

        await app.Probe.SeesAsync<RoutingSlipTerminated>();
        await app.Probe.SeesAsync<RoutingSlipCompleted>(2);
        await app.SettledAsync(stack);
        (await EffectsAsync(stack)).Should().Equal("end", "extend", "fill", "fill", "fill");
        app.Probe.Seen<RoutingSlipCompleted>().Select(completed => completed.Variables["last"].ToString()).Should().Equal("fill", "fill");
        app.Probe.Seen<RoutingSlipRevised>().Should().ContainSingle();
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_compensation_that_fails_leaves_nothing_and_is_told_of(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);

        await ExecuteAsync(app, "fill", "seal", "spill");

        await app.Probe.SeesAsync<RoutingSlipCompensationFailed>();
        await app.SettledAsync(stack);
        app.Probe.Seen<RoutingSlipActivityCompensationFailed>().Should().ContainSingle();
        (await EffectsAsync(stack)).Should().Equal("fill", "seal");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_slip_that_a_consumer_begins_leaves_with_its_transaction(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack, retries: 1);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync<RoutingSlipCompleted>();
        await app.SettledAsync(stack);
        app.Probe.Of("starting").Should().HaveCount(2);
        app.Probe.Seen<RoutingSlipCompleted>().Should().ContainSingle();
        (await EffectsAsync(stack)).Should().Equal("fill", "starting");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_saga_follows_the_slip_it_has_begun_to_its_end(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (good, bad) = (Guid.NewGuid(), Guid.NewGuid());

        await app.PublishAsync(new GlassAsked(good, "fill"));
        await app.PublishAsync(new GlassAsked(bad, "spill"));

        await app.Probe.SeesAsync<GlassTold>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<GlassTold>().Should().BeEquivalentTo([new GlassTold(good, "full"), new GlassTold(bad, "empty")]);
        (await stack.ReadAsync(db => db.Set<OrderState>().CountAsync())).Should().Be(0);
    }

    private static Task<App> StartAsync(Stack stack, int retries = 0) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddActivity<GlassActivity, GlassStep, GlassLog>();
        bus.AddConsumer<StartingConsumer>();
        bus.AddSagaStateMachine<GlassMachine, OrderState>();
        if (retries > 0)
            bus.AddConfigureEndpointsCallback((_, name, endpoint) => endpoint.UseMessageRetry(retry => retry.Immediate(retries)));
        bus.Watch<RoutingSlipCompleted>();
        bus.Watch<RoutingSlipFaulted>();
        bus.Watch<RoutingSlipTerminated>();
        bus.Watch<RoutingSlipRevised>();
        bus.Watch<RoutingSlipCompensationFailed>();
        bus.Watch<RoutingSlipActivityCompleted>();
        bus.Watch<RoutingSlipActivityCompensated>();
        bus.Watch<RoutingSlipActivityCompensationFailed>();
        bus.Watch<GlassTold>();
    });

    private static RoutingSlip Slip(params string[] steps)
    {
        var builder = new RoutingSlipBuilder(NewId.NextGuid());
        foreach (var step in steps)
            GlassActivity.AddTo(builder, step);
        return builder.Build();
    }

    private static Task ExecuteAsync(App app, params string[] steps) => app.InScopeAsync(async (services, db) =>
    {
        await services.GetRequiredService<IRoutingSlipExecutor>().Execute(Slip(steps));
        await db.SaveChangesAsync();
    });

    private static Task<List<string>> EffectsAsync(Stack stack) => stack.ReadAsync(db => db.Effects.Select(effect => effect.By).Order().ToListAsync());

    public sealed record GlassStep
    {
        public string Do { get; init; } = "";
    }

    public sealed record GlassLog
    {
        public string Done { get; init; } = "";
    }

    public sealed record GlassAsked(Guid OrderId, string Do);

    public sealed record GlassTold(Guid OrderId, string What);

    public sealed class GlassActivity(ShopDb db, Probe probe) : IActivity<GlassStep, GlassLog>
    {
        public static void AddTo(IItineraryBuilder builder, string step) => builder.AddActivity("Glass", new Uri("queue:glass_execute"), new { Do = step });

        public Task<ExecutionResult> Execute(ExecuteContext<GlassStep> context)
        {
            var step = context.Arguments.Do;
            probe.Saw(step);
            db.Add(new Effect { By = step });
            var log = new GlassLog { Done = step };
            return Task.FromResult(step switch
            {
                "spill" => throw new InvalidOperationException("Spilled."),
                "stumble" when probe.Of(step).Count == 1 => throw new InvalidOperationException("Stumbled."),
                "extend" => context.ReviseItinerary(log, itinerary =>
                {
                    AddTo(itinerary, "fill");
                    itinerary.AddActivitiesFromSourceItinerary();
                }),
                "end" => context.Terminate(),
                _ => context.CompletedWithVariables(log, new { last = step }),
            });
        }

        public Task<CompensationResult> Compensate(CompensateContext<GlassLog> context)
        {
            db.Add(new Effect { By = "unfill" });
            return Task.FromResult(context.Log.Done == "seal" ? throw new InvalidOperationException("Sealed for ever.") : context.Compensated());
        }
    }

    public sealed class StartingConsumer(ShopDb db, Probe probe) : IConsumer<OrderPlaced>
    {
        public async Task Consume(ConsumeContext<OrderPlaced> context)
        {
            probe.Saw("starting");
            db.Add(new Effect { OrderId = context.Message.OrderId, By = "starting" });
            await context.Execute(Slip("fill"));
            await db.SaveChangesAsync();
            if (context.GetRetryAttempt() == 0)
                throw new InvalidOperationException("The first attempt fails.");
        }
    }

    public sealed class GlassMachine : MassTransitStateMachine<OrderState>
    {
        public GlassMachine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => OnAsked, on => on.CorrelateById(context => context.Message.OrderId));
            Event(() => OnCompleted, on => on.CorrelateById(context => context.Message.TrackingNumber));
            Event(() => OnFaulted, on => on.CorrelateById(context => context.Message.TrackingNumber));

            Initially(When(OnAsked)
                .ThenAsync(context =>
                {
                    var builder = new RoutingSlipBuilder(context.Saga.CorrelationId);
                    GlassActivity.AddTo(builder, context.Message.Do);
                    return context.Execute(builder.Build());
                })
                .TransitionTo(Filling));
            During(
                Filling,
                When(OnCompleted).Publish(context => new GlassTold(context.Saga.CorrelationId, "full")).Finalize(),
                When(OnFaulted).Publish(context => new GlassTold(context.Saga.CorrelationId, "empty")).Finalize());
            SetCompletedWhenFinalized();
        }

        public State Filling { get; } = null!;

        public Event<GlassAsked> OnAsked { get; } = null!;

        public Event<RoutingSlipCompleted> OnCompleted { get; } = null!;

        public Event<RoutingSlipFaulted> OnFaulted { get; } = null!;
    }
}
