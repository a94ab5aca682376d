using FluentAssertions;
using MassTransit;
using MassTransit.Courier.Contracts;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Courier;

public sealed class ActivitiesInTransactions
{
    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_activity_commits_its_rows_messages_and_the_events_of_its_routing_slip_together(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync(stack);

        await ExecuteAsync(app, Plan.Succeed, Plan.Succeed);

        await app.Probe.SeesAsync(nameof(RoutingSlipCompleted));
        await app.Probe.SeesAsync("leaf", 2);
        await stack.DrainedAsync();
        app.Probe.Of(nameof(RoutingSlipActivityCompleted)).Should().HaveCount(2);
        app.Probe.Of("leaf").Should().HaveCount(2, "the same activity twice in one routing slip is no duplicate");
        (await stack.EffectsAsync()).Should().Be(2);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_failed_activity_takes_its_rows_and_messages_back_and_tells_of_its_failure(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync(stack);

        await ExecuteAsync(app, Plan.Succeed, Plan.Fail);

        await app.Probe.SeesAsync(nameof(RoutingSlipFaulted));
        await stack.DrainedAsync();
        app.Probe.Of(nameof(RoutingSlipActivityFaulted)).Should().HaveCount(1);
        app.Probe.Of(nameof(RoutingSlipActivityCompensated)).Should().HaveCount(1);
        app.Probe.Of("leaf").Select(sighting => sighting.What).Should().BeEquivalentTo(["executed", "compensated"]);
        // That of the first activity, taken back by its compensation; nothing of the failed one.
        (await stack.ReadAsync(db => db.Effects.Select(effect => effect.By).ToListAsync())).Should().BeEquivalentTo(["executed", "compensated"]);
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    public async Task An_activity_whose_statement_failed_can_still_tell_of_its_failure(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await StartAsync(stack);

        await ExecuteAsync(app, Plan.BreakTransaction);

        await app.Probe.SeesAsync(nameof(RoutingSlipFaulted));
        (await stack.EffectsAsync()).Should().Be(0);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_retry_of_the_activity_alone_finds_nothing_of_the_attempt_before(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync(stack, execute => execute.UseRetry(retry => retry.Immediate(1)));

        await ExecuteAsync(app, Plan.FailOnce);

        await app.Probe.SeesAsync(nameof(RoutingSlipCompleted));
        await app.Probe.SeesAsync("leaf");
        await stack.DrainedAsync();
        app.Probe.Of("attempt").Should().HaveCount(2);
        app.Probe.Of("leaf").Should().HaveCount(1);
        (await stack.EffectsAsync()).Should().Be(1);
    }

    private static Task<App> StartAsync(Stack stack, Action<IExecuteActivityConfigurator<ChargeActivity, Charge>>? configure = null)
        => App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddActivity<ChargeActivity, Charge, Charged>((_, execute) => configure?.Invoke(execute), (_, _) => { });
            bus.AddConsumer<SlipConsumer>();
            bus.AddConsumer<LeafConsumer>();
        });

    private static async Task ExecuteAsync(App app, params Plan[] plans)
    {
        var builder = new RoutingSlipBuilder(NewId.NextGuid());
        foreach (var plan in plans)
            builder.AddActivity("Charge", new Uri("queue:charge_execute"), new { Plan = plan });
        await app.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IRoutingSlipExecutor>().Execute(builder.Build());
            await db.SaveChangesAsync();
        });
    }

    public enum Plan
    {
        Succeed,
        Fail,
        FailOnce,
        BreakTransaction,
    }

    public sealed record Charge
    {
        public Plan Plan { get; init; }
    }

    public sealed record Charged
    {
        public Guid OrderId { get; init; }
    }

    public sealed record Leaf(string From);

    public sealed class ChargeActivity(ShopDb db, Probe probe, IPublishEndpoint publisher) : IActivity<Charge, Charged>
    {
        public async Task<ExecutionResult> Execute(ExecuteContext<Charge> context)
        {
            probe.Saw("attempt");
            var order = Guid.NewGuid();
            db.Add(new Effect { OrderId = order, By = "executed" });
            await publisher.Publish(new Leaf("executed"));
            await db.SaveChangesAsync();
            switch (context.Arguments.Plan)
            {
                case Plan.Fail:
                case Plan.FailOnce when probe.Of("attempt").Count == 1:
                    throw new InvalidOperationException("No money.");
                case Plan.BreakTransaction:
                    await db.Database.ExecuteSqlRawAsync("select 1 / 0");
                    break;
            }

            return context.Completed(new Charged { OrderId = order });
        }

        public async Task<CompensationResult> Compensate(CompensateContext<Charged> context)
        {
            db.Add(new Effect { OrderId = context.Log.OrderId, By = "compensated" });
            await context.Publish(new Leaf("compensated"));
            return context.Compensated();
        }
    }

    public sealed class LeafConsumer(Probe probe) : IConsumer<Leaf>
    {
        public Task Consume(ConsumeContext<Leaf> context)
        {
            probe.Saw("leaf", context.Message.From);
            return Task.CompletedTask;
        }
    }

    public sealed class SlipConsumer(Probe probe)
        : IConsumer<RoutingSlipCompleted>, IConsumer<RoutingSlipFaulted>, IConsumer<RoutingSlipActivityCompleted>, IConsumer<RoutingSlipActivityFaulted>, IConsumer<RoutingSlipActivityCompensated>
    {
        public Task Consume(ConsumeContext<RoutingSlipCompleted> context) => Saw(context);

        public Task Consume(ConsumeContext<RoutingSlipFaulted> context) => Saw(context);

        public Task Consume(ConsumeContext<RoutingSlipActivityCompleted> context) => Saw(context);

        public Task Consume(ConsumeContext<RoutingSlipActivityFaulted> context) => Saw(context);

        public Task Consume(ConsumeContext<RoutingSlipActivityCompensated> context) => Saw(context);

        private Task Saw<T>(ConsumeContext<T> context)
            where T : class
        {
            probe.Saw(typeof(T).Name);
            return Task.CompletedTask;
        }
    }
}
