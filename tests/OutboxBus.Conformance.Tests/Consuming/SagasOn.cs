using FluentAssertions;
using MassTransit;
using MassTransit.Saga;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Diagnostics;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Consuming;

// A saga's state changes once for each message, together with its record and its messages, and no message overwrites what another did.
public abstract class SagasOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private readonly SemaphoreSlim _consumed = new(0);

    protected virtual IReadOnlyList<SagaConcurrency> Concurrencies { get; } = [SagaConcurrency.Pessimistic];

    [SkippableFact]
    public async Task State_record_and_messages_are_committed_together()
    {
        await using var shop = await StartAsync();
        var order = Guid.NewGuid();

        await PublishAsync(shop, new StepTaken(order), new StepTaken(order));

        var (sagas, messages, records) = await ContentAsync();
        sagas.Should().ContainSingle().Which.Should().BeEquivalentTo(new { CorrelationId = order, CurrentState = "Going", Steps = 2 });
        (messages, records).Should().Be((2, 2));
    }

    [SkippableFact]
    public async Task A_duplicate_changes_no_state_and_publishes_nothing()
    {
        await using var shop = await StartAsync();
        var (order, id) = (Guid.NewGuid(), Guid.NewGuid());

        for (var copy = 0; copy < 3; copy++)
            await shop.Services.GetRequiredService<IBus>().Publish(new StepTaken(order), context => context.MessageId = id);
        await PublishAsync(shop, new StepTaken(order));
        await ConsumedAsync(1);

        var (sagas, messages, records) = await ContentAsync();
        sagas.Should().ContainSingle().Which.Steps.Should().Be(2);
        (messages, records).Should().Be((2, 2));
    }

    [SkippableFact]
    public async Task An_event_that_fails_leaves_state_and_messages_as_they_were()
    {
        await using var shop = await StartAsync();
        var order = Guid.NewGuid();
        await PublishAsync(shop, new StepTaken(order));

        await shop.Services.GetRequiredService<IBus>().Publish(new StepFailed(order));
        // The fault is consumed when the event has been rolled back.
        await ConsumedAsync(1);

        var (sagas, messages, records) = await ContentAsync();
        sagas.Should().ContainSingle().Which.Should().BeEquivalentTo(new { CurrentState = "Going", Steps = 1 });
        (messages, records).Should().Be((1, 2), "the fault has a record, the event has none");
    }

    [SkippableFact]
    public async Task Events_of_one_instance_at_once_all_count()
    {
        foreach (var concurrency in Concurrencies)
        {
            // Who waits for a lock needs no retry.
            await using var shop = await StartAsync(concurrency, retries: concurrency == SagaConcurrency.Optimistic);
            var order = Guid.NewGuid();
            await PublishAsync(shop, new StepTaken(order));

            await PublishAsync(shop, [.. Enumerable.Repeat(new StepTaken(order), 20)]);

            await using var context = Database.CreateShop();
            (await context.Set<OrderProgress>().SingleAsync(saga => saga.CorrelationId == order)).Steps.Should().Be(21, $"{concurrency}");
            var numbers = await context.Set<Envelope>().CountAsync();
            numbers.Should().Be(21, "each step has published once");
            await Database.ClearAsync();
        }
    }

    [SkippableFact]
    public async Task First_events_of_one_instance_at_once_make_one_instance()
    {
        foreach (var concurrency in Concurrencies)
        {
            await using var shop = await StartAsync(concurrency);
            var order = Guid.NewGuid();

            await PublishAsync(shop, [.. Enumerable.Repeat(new StepTaken(order), 8)]);

            var (sagas, messages, _) = await ContentAsync();
            sagas.Should().ContainSingle().Which.Steps.Should().Be(8, $"{concurrency}");
            messages.Should().Be(8);
            await Database.ClearAsync();
        }
    }

    [SkippableFact]
    public async Task Instances_inserted_before_their_first_event_are_inserted_once()
    {
        foreach (var concurrency in Concurrencies)
        {
            await using var shop = await StartAsync(concurrency);
            var order = Guid.NewGuid();

            await PublishAsync(shop, [.. Enumerable.Repeat(new OrderOpened(order), 8)]);

            (await ContentAsync()).Sagas.Should().ContainSingle().Which.Should().BeEquivalentTo(new { CurrentState = "Going", Steps = 8 }, $"{concurrency}");
            await Database.ClearAsync();
        }
    }

    [SkippableFact]
    public async Task Instances_are_found_by_any_condition_that_still_holds_when_they_are_changed()
    {
        foreach (var concurrency in Concurrencies)
        {
            await using var shop = await StartAsync(concurrency, retries: concurrency == SagaConcurrency.Optimistic);
            var (first, second, third) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
            await PublishAsync(shop, new StepTaken(first), new StepTaken(second), new StepTaken(third));
            await PublishAsync(shop, new StepTaken(first), new StepTaken(second));

            await PublishAsync(shop, [.. Enumerable.Repeat(new AllAdvanced(2), 8)]);

            (await ContentAsync()).Sagas.ToDictionary(saga => saga.CorrelationId, saga => saga.Steps).Should().BeEquivalentTo(
                new Dictionary<Guid, int> { [first] = 3, [second] = 3, [third] = 1 }, $"{concurrency}");
            await Database.ClearAsync();
        }
    }

    [SkippableFact]
    public async Task A_read_only_event_publishes_and_stores_no_change()
    {
        await using var shop = await StartAsync();
        var order = Guid.NewGuid();
        await PublishAsync(shop, new StepTaken(order));

        await PublishAsync(shop, new OrderLookedAt(order));

        var (sagas, messages, _) = await ContentAsync();
        sagas.Should().ContainSingle().Which.Steps.Should().Be(1);
        messages.Should().Be(2);
    }

    [SkippableFact]
    public async Task A_completed_instance_is_removed_and_one_completed_at_once_was_never_there()
    {
        await using var shop = await StartAsync();
        var order = Guid.NewGuid();
        await PublishAsync(shop, new StepTaken(order));

        await PublishAsync(shop, new OrderEnded(order), new OrderEnded(Guid.NewGuid()));

        (await ContentAsync()).Sagas.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Instances_can_be_looked_up()
    {
        await using var shop = await StartAsync();
        var order = Guid.NewGuid();
        await PublishAsync(shop, new StepTaken(order));

        (await shop.Services.GetRequiredService<ILoadSagaRepository<OrderProgress>>().Load(order)).Steps.Should().Be(1);
        (await shop.Services.GetRequiredService<ILoadSagaRepository<OrderProgress>>().Load(Guid.NewGuid())).Should().BeNull();
        (await shop.Services.GetRequiredService<IQuerySagaRepository<OrderProgress>>().Find(new SagaQuery<OrderProgress>(saga => saga.Steps == 1))).Should().Equal(order);
    }

    public override Task DisposeAsync()
    {
        _consumed.Dispose();
        return Task.CompletedTask;
    }

    private async Task<Shop> StartAsync(SagaConcurrency concurrency = SagaConcurrency.Pessimistic, bool retries = true)
    {
        var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<FaultHandler>().AddSaga<Machine, OrderProgress>(saga =>
            {
                saga.Repository.Concurrency = concurrency;
                // That a version has changed, or another has inserted the first instance, is found out when it is too late.
                saga.RetryDelays = [.. Enumerable.Repeat(TimeSpan.FromMilliseconds(5), retries ? 100 : 0)];
            }),
            services => services.AddSingleton(new FaultPoints((point, _) =>
            {
                if (point == FaultPoint.AfterConsume)
                    _consumed.Release();
                return ValueTask.CompletedTask;
            })));
        await shop.StartAsync();
        return shop;
    }

    private async Task PublishAsync<T>(Shop shop, params T[] messages)
        where T : class
    {
        var bus = shop.Services.GetRequiredService<IBus>();
        await Task.WhenAll(messages.Select(message => bus.Publish(message)));
        await ConsumedAsync(messages.Length);
    }

    private async Task ConsumedAsync(int messages)
    {
        for (var message = 0; message < messages; message++)
            (await _consumed.WaitAsync(Eventually.Limit)).Should().BeTrue("the messages are consumed");
    }

    private async Task<(List<OrderProgress> Sagas, int Messages, int Records)> ContentAsync()
    {
        await using var context = Database.CreateShop();
        return (await context.Set<OrderProgress>().ToListAsync(), await context.Set<Envelope>().CountAsync(), await context.Set<InboxMessage>().CountAsync());
    }

    public sealed record StepTaken(Guid OrderId);

    public sealed record StepFailed(Guid OrderId);

    public sealed record OrderOpened(Guid OrderId);

    public sealed record OrderLookedAt(Guid OrderId);

    public sealed record OrderEnded(Guid OrderId);

    public sealed record AllAdvanced(int Steps);

    public sealed class FaultHandler : IMessageHandler<Fault<StepFailed>>
    {
        public Task Handle(Fault<StepFailed> message, IMessageContext context, CancellationToken cancellationToken) => Task.CompletedTask;
    }

    public sealed class Machine : MassTransitStateMachine<OrderProgress>
    {
        public Machine()
        {
            InstanceState(saga => saga.CurrentState);
            Event(() => Stepped, step => step.CorrelateById(context => context.Message.OrderId));
            Event(() => Failed, step => step.CorrelateById(context => context.Message.OrderId));
            Event(() => Ended, step => step.CorrelateById(context => context.Message.OrderId));
            Event(() => Advanced, step =>
            {
                step.CorrelateBy((saga, context) => saga.Steps == context.Message.Steps);
                step.OnMissingInstance(missing => missing.Discard());
            });
            Event(() => LookedAt, step =>
            {
                step.CorrelateById(context => context.Message.OrderId);
                step.ReadOnly = true;
            });
            Event(() => Opened, step =>
            {
                step.CorrelateById(context => context.Message.OrderId);
                step.InsertOnInitial = true;
                step.SetSagaFactory(context => new OrderProgress { CorrelationId = context.Message.OrderId });
            });

            Initially(
                When(Stepped).Then(context => context.Saga.Steps++).Publish(context => Placed(context)).TransitionTo(Going),
                When(Opened).Then(context => context.Saga.Steps++).TransitionTo(Going),
                When(Ended).Finalize());
            During(
                Going,
                When(Stepped).Then(context => context.Saga.Steps++).Publish(context => Placed(context)),
                When(Opened).Then(context => context.Saga.Steps++),
                When(Advanced).Then(context => context.Saga.Steps++),
                When(LookedAt).Then(context => context.Saga.Steps += 100).Publish(context => Placed(context)),
                When(Failed).Then(context => context.Saga.Steps++).Publish(context => Placed(context)).Then(_ => throw new InvalidOperationException("This event always fails.")),
                When(Ended).Finalize());
            SetCompletedWhenFinalized();
        }

        public State Going { get; } = null!;

        public Event<StepTaken> Stepped { get; } = null!;

        public Event<StepFailed> Failed { get; } = null!;

        public Event<OrderOpened> Opened { get; } = null!;

        public Event<OrderLookedAt> LookedAt { get; } = null!;

        public Event<OrderEnded> Ended { get; } = null!;

        public Event<AllAdvanced> Advanced { get; } = null!;

        private static OrderPlaced Placed<T>(BehaviorContext<OrderProgress, T> context)
            where T : class => new($"{context.Saga.CorrelationId}-{context.Saga.Steps}");
    }
}

public sealed class SagasOnSqlite(SqliteDatabase database) : SagasOn<SqliteDatabase>(database);

public sealed class SagasOnSqliteUnderHostileNames(HostileSqliteDatabase database) : SagasOn<HostileSqliteDatabase>(database);

public sealed class SagasOnPostgreSql(PostgreSqlDatabase database) : SagasOn<PostgreSqlDatabase>(database)
{
    protected override IReadOnlyList<SagaConcurrency> Concurrencies { get; } = [SagaConcurrency.Pessimistic, SagaConcurrency.Optimistic];
}

public sealed class SagasOnPostgreSqlUnderHostileNames(HostilePostgreSqlDatabase database) : SagasOn<HostilePostgreSqlDatabase>(database);
