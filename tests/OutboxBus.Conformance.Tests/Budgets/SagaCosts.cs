using FluentAssertions;
using MassTransit;
using MassTransit.DependencyInjection;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Diagnostics;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Budgets;

// A saga's state, its inbox record and its messages are one flush, whether its row is locked or has a version.
public sealed class SagaCosts(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const int Steps = 10;

    [SkippableTheory]
    [InlineData(InboxMode.First, SagaConcurrency.Optimistic, 4)]
    [InlineData(InboxMode.First, SagaConcurrency.Pessimistic, 4)]
    [InlineData(InboxMode.Last, SagaConcurrency.Optimistic, 3)]
    [InlineData(InboxMode.Last, SagaConcurrency.Pessimistic, 3)]
    public async Task An_event_costs_its_round_trips_and_no_more(InboxMode mode, SagaConcurrency concurrency, int roundTrips)
    {
        // BEGIN travels with what comes first. The inbox record, unless it comes last; the instance; what has changed and was published; COMMIT.
        using var consumed = new SemaphoreSlim(0);
        await using var tap = new PostgresTap(Database.ConnectionString);
        await using var shop = Shop.Create(
            Database,
            bus => bus
                .AddSaga<ProgressMachine, OrderProgress>(saga => saga.Repository.Concurrency = concurrency)
                .Inbox(inbox => inbox.Mode = mode),
            services =>
            {
                services.AddSingleton(new FaultPoints((point, _) =>
                {
                    if (point == FaultPoint.AfterConsume)
                        consumed.Release();
                    return ValueTask.CompletedTask;
                }));
                services.ConfigureDbContext<ShopDb>((provider, options) =>
                {
                    if (provider.GetRequiredService<IScopedConsumeContextProvider>().HasContext)
                        options.UseNpgsql(tap.ConnectionString);
                });
            },
            delivers: true);
        await shop.StartAsync();
        var order = Guid.NewGuid();
        await StepAsync(shop, consumed, order);
        var before = tap.RoundTrips;

        for (var step = 0; step < Steps; step++)
            await StepAsync(shop, consumed, order);
        await shop.StopAsync();

        (tap.RoundTrips - before).Should().Be(roundTrips * Steps);
        await using var context = Database.CreateShop();
        (await context.Set<OrderProgress>().SingleAsync()).Steps.Should().Be(1 + Steps);
    }

    private static async Task StepAsync(Shop shop, SemaphoreSlim consumed, Guid order)
    {
        await shop.Services.GetRequiredService<IBus>().Publish(new StepTaken(order));
        (await consumed.WaitAsync(Eventually.Limit)).Should().BeTrue("the event is consumed");
    }

    public sealed record StepTaken(Guid OrderId);

    public sealed class ProgressMachine : MassTransitStateMachine<OrderProgress>
    {
        public ProgressMachine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => Stepped, step => step.CorrelateById(context => context.Message.OrderId));
            Initially(When(Stepped).Then(context => context.Saga.Steps++).TransitionTo(Going));
            During(Going, When(Stepped)
                .Then(context => context.Saga.Steps++)
                .Publish(context => new OrderPlaced($"{context.Saga.Steps}")));
        }

        public State Going { get; } = null!;

        public Event<StepTaken> Stepped { get; } = null!;
    }
}
