using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Scheduling;

// What is scheduled arrives with its token, and what is cancelled before it is due never does, whoever schedules and cancels.
public sealed class ScheduledAndCancelled
{
    private const int Delivered = 205;
    private const string Queue = "due";
    private static readonly DateTimeOffset Later = DateTimeOffset.UtcNow.AddHours(1);

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task Through_the_outbox_context(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await StartAsync(stack);
        var (cancelled, kept) = (Guid.NewGuid(), Guid.NewGuid());

        var sent = Guid.Empty;
        await app.InScopeAsync(async (services, db) =>
        {
            var outbox = services.GetRequiredService<IOutboxContext>();
            await outbox.SchedulePublish(new Due("cancelled"), Later, new PublishOptions { ScheduleToken = cancelled });
            await outbox.ScheduleSend(Queue, new Due("cancelled too"), Later, new SendOptions { ScheduleToken = cancelled });
            await outbox.SchedulePublish(new Due("published"), Later, new PublishOptions { ScheduleToken = kept });
            sent = await outbox.ScheduleSend(Queue, new Due("sent"), Later);
            await db.SaveChangesAsync();
        });
        await app.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IOutboxContext>().CancelScheduled(cancelled);
            await db.SaveChangesAsync();
        });

        await ArriveAloneAsync(stack, app, ("published", kept), ("sent", sent));
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task Through_MassTransits_scheduler(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await StartAsync(stack, bus => bus.AddDelayedMessageScheduler());
        var queue = new Uri($"queue:{Queue}");

        ScheduledMessage[] cancelled = [], kept = [];
        await app.InScopeAsync(async (services, db) =>
        {
            var scheduler = services.GetRequiredService<IMessageScheduler>();
            cancelled = [await scheduler.SchedulePublish(Later.UtcDateTime, new Due("cancelled")), await scheduler.ScheduleSend(queue, Later.UtcDateTime, new Due("cancelled too"))];
            kept = [await scheduler.SchedulePublish(Later.UtcDateTime, new Due("published")), await scheduler.ScheduleSend(queue, Later.UtcDateTime, new Due("sent"))];
            await db.SaveChangesAsync();
        });
        await app.InScopeAsync(async (services, db) =>
        {
            var scheduler = services.GetRequiredService<IMessageScheduler>();
            await scheduler.CancelScheduledPublish<Due>(cancelled[0].TokenId);
            await scheduler.CancelScheduledSend(queue, cancelled[1].TokenId);
            await db.SaveChangesAsync();
        });

        await ArriveAloneAsync(stack, app, ("published", kept[0].TokenId), ("sent", kept[1].TokenId));
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First)]
    public async Task By_consumers_in_their_transactions(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync(stack, bus => bus.AddConsumer<SchedulingConsumer>(consumer => consumer.UseMessageRetry(retry => retry.Immediate(1))));

        await app.PublishAsync(new Plan("first"));
        await app.PublishAsync(new Plan("second"));
        await app.Probe.SeesAsync("planned", 4);
        await ScheduledAsync(stack, 2 * 2, "the attempts that failed have scheduled nothing");
        var first = app.Probe.Of("planned").Select(sighting => (Planned)sighting.What!).Last(planned => planned.What == "first");

        await app.PublishAsync(new Forget(first.Publish, first.Send, FailsAlways: true));
        await app.Probe.SeesAsync("forgetting", 2);
        await app.Probe.SeesAsync("fault");
        await ScheduledAsync(stack, 2 * 2, "what failed has cancelled nothing");
        await app.PublishAsync(new Forget(first.Publish, first.Send));
        await ScheduledAsync(stack, 2, "the first plan is forgotten");

        var second = app.Probe.Of("planned").Select(sighting => (Planned)sighting.What!).Last(planned => planned.What == "second");
        await ArriveAloneAsync(stack, app, sentElsewhere: 4, ("second published", second.Publish), ("second sent", second.Send));
    }

    [SkippableFact]
    public async Task By_a_process_that_delivers_nothing_for_one_that_does()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var delivering = await StartAsync(stack);
        await using var storing = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false));
        var (cancelled, kept) = (Guid.NewGuid(), Guid.NewGuid());

        foreach (var token in (Guid[])[cancelled, kept])
            await storing.PublishAsync(new Due($"{token}"), new PublishOptions { DueAt = Later, ScheduleToken = token });
        await storing.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IOutboxContext>().CancelScheduled(cancelled);
            await db.SaveChangesAsync();
        });

        await ArriveAloneAsync(stack, delivering, ($"{kept}", kept));
    }

    // Those arrive with their tokens, and delivery has sent nothing else: a fence scheduled last has passed, and no row is left.
    private static Task ArriveAloneAsync(Stack stack, App app, params (string What, Guid Token)[] expected) => ArriveAloneAsync(stack, app, 0, expected);

    private static async Task ArriveAloneAsync(Stack stack, App app, int sentElsewhere, params (string What, Guid Token)[] expected)
    {
        var fence = Guid.NewGuid();
        await app.PublishAsync(new Due("fence"), new PublishOptions { DueAt = Later, ScheduleToken = fence });
        app.Probe.Of("due").Should().BeEmpty("nothing is due");
        (string, Guid)[] all = [.. expected, ("fence", fence)];

        await TimeComesAsync(stack);

        await app.Probe.SeesAsync("due", all.Length);
        await stack.DrainedAsync();
        app.Probe.Of("due").Select(sighting => (Arrival)sighting.What!).Select(arrival => (arrival.What, arrival.Token ?? Guid.Empty)).Should().BeEquivalentTo(all);
        app.Logs.Count(Delivered).Should().Be(all.Length + sentElsewhere);
    }

    // Of everything that waits.
    private static async Task TimeComesAsync(Stack stack)
    {
        await using var db = stack.Open();
        await db.Outbox.ExecuteUpdateAsync(rows => rows.SetProperty(row => row.VisibleAt, DateTime.UnixEpoch));
    }

    private static async Task ScheduledAsync(Stack stack, int count, string because) => await Eventually.BecomesAsync(
        () => stack.ReadAsync(async db => (await db.Outbox.CountAsync(), await db.Outbox.CountAsync(row => row.ScheduleToken != null))), found => found == (count, count), because);

    private static Task<App> StartAsync(Stack stack, Action<IBusRegistrationConfigurator>? configure = null) => App.StartMassTransitAsync(stack, bus =>
    {
        configure?.Invoke(bus);
        bus.AddConsumer<DueConsumer>().Endpoint(endpoint => endpoint.Name = Queue);
    });

    public sealed record Due(string What);

    public sealed record Plan(string What);

    public sealed record Forget(Guid Publish, Guid Send, bool FailsAlways = false);

    private sealed record Planned(string What, Guid Publish, Guid Send);

    private sealed record Arrival(string What, Guid? Token);

    private sealed class DueConsumer(Probe probe) : IConsumer<Due>
    {
        public Task Consume(ConsumeContext<Due> context)
        {
            probe.Saw("due", new Arrival(context.Message.What, context.GetSchedulingTokenId()));
            return Task.CompletedTask;
        }
    }

    // Schedules with what MassTransit puts on its context, and cancels with the scheduler of its scope.
    private sealed class SchedulingConsumer(Probe probe, IMessageScheduler scheduler) : IConsumer<Plan>, IConsumer<Forget>, IConsumer<Fault<Forget>>
    {
        public async Task Consume(ConsumeContext<Plan> context)
        {
            var what = context.Message.What;
            var published = await context.SchedulePublish(Later.UtcDateTime, new Due($"{what} published"));
            var sent = await context.ScheduleSend(new Uri($"queue:{Queue}"), Later.UtcDateTime, new Due($"{what} sent"));
            probe.Saw("planned", new Planned(what, published.TokenId, sent.TokenId));
            FailIf(context.GetRetryAttempt() == 0);
        }

        public async Task Consume(ConsumeContext<Forget> context)
        {
            await context.GetPayload<MessageSchedulerContext>().CancelScheduledPublish<Due>(context.Message.Publish);
            await scheduler.CancelScheduledSend(new Uri($"queue:{Queue}"), context.Message.Send);
            probe.Saw("forgetting");
            FailIf(context.Message.FailsAlways);
        }

        public Task Consume(ConsumeContext<Fault<Forget>> context)
        {
            probe.Saw("fault");
            return Task.CompletedTask;
        }

        private static void FailIf(bool fails)
        {
            if (fails)
                throw new InvalidOperationException("This attempt fails.");
        }
    }
}
