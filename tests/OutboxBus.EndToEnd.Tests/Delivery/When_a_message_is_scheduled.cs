using FluentAssertions;
using MassTransit;
using MassTransit.Scheduling;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Consuming;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_a_message_is_scheduled
{
    private static readonly TimeSpan Soon = TimeSpan.FromMilliseconds(500);

    public static TheoryData<StackKind> Stacks => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task It_arrives_when_it_is_due_and_not_when_it_was_cancelled(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<LeafHandler>().AddHandler<OrderEventHandler>());
        var due = DateTimeOffset.UtcNow + Soon;
        var (kept, cancelled, sent) = (Guid.NewGuid(), Guid.NewGuid(), Guid.Empty);

        await app.InScopeAsync(async (services, db) =>
        {
            var outbox = services.GetRequiredService<IOutboxContext>();
            await outbox.SchedulePublish(new Leaf("kept"), due, new PublishOptions { ScheduleToken = kept });
            await outbox.SchedulePublish(new Leaf("cancelled"), due.AddHours(1), new PublishOptions { ScheduleToken = cancelled });
            await outbox.ScheduleSend("leaf", new Leaf("sent"), due);
            sent = await outbox.ScheduleSend("leaf", new Leaf("cancelled too"), due.AddHours(1));
            await outbox.SchedulePublish(new OrderPlaced(Guid.NewGuid()), due);
            await db.SaveChangesAsync();
        });
        await app.InScopeAsync(async (services, db) =>
        {
            var outbox = services.GetRequiredService<IOutboxContext>();
            await outbox.CancelScheduled(cancelled);
            await outbox.CancelScheduled(sent);
            await db.SaveChangesAsync();
        });

        await app.Probe.SeesAsync("leaf", 2);
        await app.Probe.SeesAsync("order event");
        // What was cancelled would be there for an hour.
        await stack.DrainedAsync();
        app.Probe.Of("leaf").Select(sighting => sighting.What).Should().BeEquivalentTo(["kept", "sent"]);
        DateTimeOffset.UtcNow.Should().BeOnOrAfter(due);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task MassTransits_scheduler_needs_no_broker_plugin_and_can_cancel(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddDelayedMessageScheduler();
            bus.AddConsumer<SchedulingConsumer>(consumer => consumer.UseMessageRetry(retry => retry.Immediate(1)));
            bus.AddConsumer<LeafConsumer>();
        });
        var cancelled = Guid.Empty;

        await app.InScopeAsync(async (services, db) =>
        {
            var scheduler = services.GetRequiredService<IMessageScheduler>();
            await scheduler.SchedulePublish(DateTime.UtcNow + Soon, new Leaf("of a scope"));
            cancelled = (await scheduler.SchedulePublish(DateTime.UtcNow.AddHours(1), new Leaf("cancelled by a consumer"))).TokenId;
            db.Add(new Order());
            await db.SaveChangesAsync();
        });
        await app.PublishAsync(new Rescheduled(cancelled));

        await app.Probe.SeesAsync("leaf", 2);
        // What was cancelled would be there for an hour.
        await stack.DrainedAsync();
        app.Probe.Of("leaf").Select(sighting => sighting.What).Should().BeEquivalentTo(["of a scope", "of the second attempt"]);
    }

    // Not on the in-memory stack, whose bus has MassTransit's delayed scheduler.
    [SkippableFact]
    public async Task Another_scheduler_of_the_application_is_left_alone()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddMessageScheduler(new Uri("queue:quartz"));
            bus.AddConfigureEndpointsCallback((_, _, endpoint) => endpoint.UseMessageScheduler(new Uri("queue:quartz")));
            bus.AddConsumer<SchedulingConsumer>(consumer => consumer.UseMessageRetry(retry => retry.Immediate(1)));
            bus.AddHandler((ConsumeContext<ScheduleMessage> context, Probe probe) =>
            {
                probe.Saw("quartz");
                return Task.CompletedTask;
            }).Endpoint(endpoint => endpoint.Name = "quartz");
        });

        await app.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IMessageScheduler>().SchedulePublish(DateTime.UtcNow + Soon, new Leaf("of a scope"));
            await db.SaveChangesAsync();
        });
        await app.PublishAsync(new Rescheduled(Guid.NewGuid()));

        await app.Probe.SeesAsync("quartz", 2);
    }

    public sealed record Rescheduled(Guid Cancelled);

    public sealed class SchedulingConsumer : IConsumer<Rescheduled>
    {
        public async Task Consume(ConsumeContext<Rescheduled> context)
        {
            await context.SchedulePublish(Soon, new Leaf(context.GetRetryAttempt() == 0 ? "of the first attempt" : "of the second attempt"));
            await context.GetPayload<MessageSchedulerContext>().CancelScheduledSend(context.ReceiveContext.InputAddress, context.Message.Cancelled);
            if (context.GetRetryAttempt() == 0)
                throw new InvalidOperationException("The first attempt fails.");
        }
    }

    // Subscribed to the interface: a scheduled publish has the topology of any other.
    public sealed class OrderEventHandler(Probe probe) : IMessageHandler<IOrderEvent>
    {
        public Task Handle(IOrderEvent message, IMessageContext context, CancellationToken cancellationToken)
        {
            probe.Saw("order event");
            return Task.CompletedTask;
        }
    }
}
