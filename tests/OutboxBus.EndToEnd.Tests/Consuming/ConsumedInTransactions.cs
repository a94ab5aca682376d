using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

public sealed class ConsumedInTransactions
{
    public static TheoryData<StackKind> Stacks => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    public static TheoryData<StackKind, InboxMode> StacksAndModes => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
        { StackKind.SqliteInMemory, InboxMode.Last },
    };

    [SkippableTheory]
    [MemberData(nameof(StacksAndModes))]
    public async Task A_handler_publishes_in_its_own_transaction_by_every_way_it_has(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<FanningHandler>().AddHandler<LeafHandler>());

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("leaf", 4);
        await stack.DrainedAsync();
        app.Probe.Of("leaf").Select(sighting => sighting.What).Should().BeEquivalentTo(["context.Publish", "context.Send", "IPublishEndpoint", "IOutboxContext"]);
        (await stack.EffectsAsync()).Should().Be(1);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_consumer_publishes_in_its_own_transaction_by_every_way_it_has(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<FanningConsumer>();
            bus.AddConsumer<LeafConsumer>().Endpoint(endpoint => endpoint.Name = "leaf");
        });

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("leaf", 4);
        await stack.DrainedAsync();
        app.Probe.Of("leaf").Select(sighting => sighting.What).Should().BeEquivalentTo(["context.Publish", "context.Send", "IPublishEndpoint", "IOutboxContext"]);
        (await stack.EffectsAsync()).Should().Be(1);
    }

    [SkippableTheory]
    [MemberData(nameof(StacksAndModes))]
    public async Task A_handler_that_throws_takes_its_rows_and_publishes_back_and_is_tried_again_in_a_fresh_scope(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartAsync(stack, bus => bus
            .AddHandler<FailingHandler>(handler => handler.RetryDelays = [TimeSpan.Zero, TimeSpan.FromMilliseconds(20)])
            .AddHandler<FaultHandler>()
            .AddHandler<LeafHandler>());

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("fault");
        await stack.DrainedAsync();
        var attempts = app.Probe.Of("failing").Select(sighting => ((int Attempt, DbContextId Context))sighting.What!).ToList();
        attempts.Select(attempt => attempt.Attempt).Should().Equal(1, 2, 3);
        attempts.Select(attempt => attempt.Context).Should().OnlyHaveUniqueItems();
        (await stack.EffectsAsync()).Should().Be(0);
        app.Probe.Of("leaf").Should().BeEmpty();
        app.Probe.Of("fault").Should().ContainSingle();
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            await Eventually.BecomesAsync(() => broker.CountAsync("failing_error"), count => count == 1, "the message is in the error queue");
        }
    }

    [SkippableTheory]
    [MemberData(nameof(StacksAndModes))]
    public async Task A_handler_that_fails_once_has_its_effects_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<RecoveringHandler>().AddHandler<FaultHandler>().AddHandler<LeafHandler>());

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("leaf");
        await stack.DrainedAsync();
        app.Probe.Of("leaf").Should().ContainSingle().Which.What.Should().Be("attempt 2");
        app.Probe.Of("fault").Should().BeEmpty();
        (await stack.EffectsAsync()).Should().Be(1);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_request_is_answered_by_a_handler_and_by_a_consumer(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<PriceHandler>().MassTransit(x => x.AddConsumer<WeightConsumer>()));

        var clients = app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30));
        var order = Guid.NewGuid();
        (await clients.CreateRequestClient<PriceAsked>().GetResponse<PriceTold>(new PriceAsked(order))).Message.Should().Be(new PriceTold(order, 12.5m));
        (await clients.CreateRequestClient<WeightAsked>().GetResponse<WeightTold>(new WeightAsked(order))).Message.Should().Be(new WeightTold(order, 3));
    }

    [SkippableTheory]
    [MemberData(nameof(StacksAndModes))]
    public async Task Handlers_that_share_an_endpoint_each_consume_the_message_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await App.StartAsync(stack, bus => bus
            .AddHandler<FirstHandler>(handler => handler.EndpointName = "shared")
            .AddHandler<SecondHandler>(handler => handler.EndpointName = "shared"));

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("first");
        await app.Probe.SeesAsync("second");
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 2, "both have committed");
        app.Probe.All.Should().HaveCount(2);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_handler_of_several_messages_gets_each_of_them(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<VersatileHandler>());

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await app.PublishAsync(new StockReserved(Guid.NewGuid()));

        await app.Probe.SeesAsync("versatile", 2);
        app.Probe.Of("versatile").Select(sighting => sighting.What).Should().BeEquivalentTo([nameof(OrderPlaced), nameof(StockReserved)]);
        if (stack.Broker is { } uri)
        {
            await using var broker = await RawBroker.ConnectAsync(uri);
            (await broker.CountAsync("versatile")).Should().NotBeNull("both share the handler's endpoint");
        }
    }

    [SkippableFact]
    public async Task A_concurrency_limit_is_kept()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<NarrowHandler>(handler => handler.ConcurrencyLimit = 2));
        NarrowHandler.Reset();

        for (var order = 0; order < 12; order++)
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("narrow", 12);
        NarrowHandler.Most.Should().Be(2);
    }

    [SkippableFact]
    public async Task Endpoint_names_follow_the_convention_or_the_option()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<FirstHandler>().AddHandler<SecondHandler>(handler => handler.EndpointName = "named"));
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);

        (await broker.CountAsync("first")).Should().Be(0);
        (await broker.CountAsync("named")).Should().Be(0);
        (await broker.CountAsync("second")).Should().BeNull();
    }
}
