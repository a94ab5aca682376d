using FluentAssertions;
using MassTransit;
using MassTransit.Configuration;
using MassTransit.DependencyInjection;
using MassTransit.Transports;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Publishing;

public sealed class PublishedPastTheOutbox
{
    private const string Bypassed = "outboxbus.bypassed";
    private const int BypassWarned = 102;
    private const int RequestWarned = 103;
    private const int RiderWarned = 104;

    public static TheoryData<StackKind> Stacks => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task What_a_scope_with_a_unit_of_work_sends_through_the_bus_is_counted_and_warned_of_once(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<NoteHandler>());
        using var counters = new Counters(app);
        var bus = app.Services.GetRequiredService<IBus>();

        await app.InScopeAsync(async (services, db) =>
        {
            db.Add(new Order());
            await services.GetRequiredService<IOutboxContext>().Publish(new Note("captured"));
            await bus.Publish(new Note("published past it"));
            var endpoint = await bus.GetSendEndpoint(new Uri("queue:note"));
            await endpoint.Send(new Note("sent past it"));
            await db.SaveChangesAsync();
        });

        await app.Probe.SeesAsync("note", 3);
        await stack.DrainedAsync();
        counters[Bypassed].Should().Be(2, "delivery's own send and the captured publish do not count");
        app.Logs.Count(BypassWarned).Should().Be(1);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Without_a_unit_of_work_the_bus_is_free_to_use(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<NoteHandler>().Publishing(publishing => publishing.Bypass = OutboxBypass.Throw));
        using var counters = new Counters(app);
        var bus = app.Services.GetRequiredService<IBus>();

        await bus.Publish(new Note("before"));
        await app.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IOutboxContext>().Publish(new Note("captured"));
            await db.SaveChangesAsync();
        });
        await bus.Publish(new Note("after"));

        await app.Probe.SeesAsync("note", 3);
        counters[Bypassed].Should().Be(0);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_handler_that_publishes_through_the_bus_fails_where_asked_for_and_nothing_leaves(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(
            stack,
            bus => bus.AddHandler<NoteHandler>()
                .AddHandler<StrayHandler>(handler => handler.RetryDelays = [TimeSpan.Zero])
                .Publishing(publishing => publishing.Bypass = OutboxBypass.Throw));
        using var counters = new Counters(app);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("refused", 2);
        await app.PublishAsync(new Note("captured"));
        await app.Probe.SeesAsync("note");
        app.Probe.Of("note").Should().ContainSingle().Which.What.Should().Be("captured");
        counters[Bypassed].Should().Be(2);
        (await stack.EffectsAsync()).Should().Be(0);
    }

    [SkippableTheory]
    [InlineData(OutboxBypass.Throw)]
    [InlineData(OutboxBypass.Warn)]
    public async Task A_fault_does_not_count_where_a_filter_outside_takes_a_publisher(OutboxBypass bypass)
    {
        await using var stack = Stack.SqliteInMemory();
        await using var app = await App.StartMassTransitAsync(
            stack,
            bus =>
            {
                bus.AddConsumer<FailingConsumer>();
                bus.AddConsumer<FaultConsumer>();
                bus.AddConfigureEndpointsCallback((context, _, endpoint) => endpoint.UseConsumeFilter(typeof(PublishingFilter<>), context));
            },
            store => store.Publishing(publishing => publishing.Bypass = bypass));
        using var counters = new Counters(app);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("fault", 1);
        app.Probe.Of("fault").Single().What.Should().Be("The handler fails.");
        counters[Bypassed].Should().Be(0);
    }

    // Not on SQLite, where the handler that answers waits for its turn until the one that asks has ended.
    [SkippableFact]
    public async Task Requests_answers_and_faults_of_a_handler_do_not_count()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(
            stack,
            bus => bus.AddHandler<AskingHandler>(handler => handler.RetryDelays = []).AddHandler<PriceHandler>().AddHandler<FaultHandler>()
                .Publishing(publishing => publishing.Bypass = OutboxBypass.Throw));
        using var counters = new Counters(app);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("price", 1);
        await app.Probe.SeesAsync("fault", 1);
        counters[Bypassed].Should().Be(0);
        app.Logs.Count(RequestWarned).Should().Be(1, "a handler that asks keeps its transaction open");
    }

    // A rider as its package registers it; the packages of Kafka and Event Hubs need brokers of their own.
    [SkippableTheory]
    [InlineData(OutboxBypass.Warn, 1)]
    [InlineData(OutboxBypass.Allow, 0)]
    public async Task A_rider_is_warned_of_at_start(OutboxBypass bypass, int warnings)
    {
        await using var stack = Stack.SqliteInMemory();
        await using var app = await App.StartMassTransitAsync(
            stack,
            bus => bus.AddRider(rider => rider.SetRiderFactory(new SilentRiderFactory())),
            store => store.Publishing(publishing => publishing.Bypass = bypass));

        app.Logs.Count(RiderWarned).Should().Be(warnings);
    }
}

public interface ISilentRider : IRider;

public sealed class SilentRiderFactory : IRegistrationRiderFactory<ISilentRider>
{
    public IBusInstanceSpecification CreateRider(IRiderRegistrationContext context) => new Nothing();

    private sealed class Nothing : IBusInstanceSpecification
    {
        public void Configure(IBusInstance busInstance)
        {
        }

        public IEnumerable<ValidationResult> Validate() => [];
    }
}

public sealed class StrayHandler(IBus bus, ShopDb db, Probe probe) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Add(new Effect { OrderId = message.OrderId });
        try
        {
            await bus.Publish(new Note("past it"), cancellationToken);
        }
        catch (OutboxBusException)
        {
            probe.Saw("refused");
            throw;
        }
    }
}

public sealed class AskingHandler(IRequestClient<PriceAsked> prices, Probe probe) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        var answer = await prices.GetResponse<PriceTold>(new PriceAsked(message.OrderId), cancellationToken);
        probe.Saw("price", answer.Message.Price);
        throw new InvalidOperationException("Fails after it has asked.");
    }
}

public sealed class PriceHandler : IMessageHandler<PriceAsked>
{
    public Task Handle(PriceAsked message, IMessageContext context, CancellationToken cancellationToken)
        => context.Respond(new PriceTold(message.OrderId, 42), cancellationToken);
}

public sealed class FaultHandler(Probe probe) : IMessageHandler<Fault<OrderPlaced>>
{
    public Task Handle(Fault<OrderPlaced> message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("fault");
        return Task.CompletedTask;
    }
}

public sealed class FailingConsumer : IConsumer<OrderPlaced>
{
    public Task Consume(ConsumeContext<OrderPlaced> context) => throw new InvalidOperationException("The handler fails.");
}

public sealed class FaultConsumer(Probe probe) : IConsumer<Fault<OrderPlaced>>
{
    public Task Consume(ConsumeContext<Fault<OrderPlaced>> context)
    {
        probe.Saw("fault", context.Message.Exceptions[0].Message);
        return Task.CompletedTask;
    }
}

public sealed class PublishingFilter<T>(IPublishEndpoint publisher) : IFilter<ConsumeContext<T>>
    where T : class
{
    public Task Send(ConsumeContext<T> context, IPipe<ConsumeContext<T>> next) => next.Send(context);

    public void Probe(ProbeContext context) => _ = publisher;
}
