using System.Collections.Concurrent;
using System.Diagnostics;
using FluentAssertions;
using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using OutboxBus.Diagnostics;
using OutboxBus.EndToEnd.Tests.Delivery;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Diagnostics;

[Collection(TracesOfMassTransit.Name)]
public sealed class Observed
{
    private const int Duplicate = 301;

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task The_consumer_continues_the_publishers_trace_and_the_delivery_links_to_it(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<TracedHandler>());
        var spans = new ConcurrentQueue<Activity>();
        using var source = new ActivitySource($"Test.{Guid.NewGuid():N}");
        using var listener = new ActivityListener();
        listener.ShouldListenTo = candidate => candidate == source || candidate.Name is OutboxBusTelemetry.Name or "MassTransit";
        listener.Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded;
        listener.ActivityStopped = spans.Enqueue;
        ActivitySource.AddActivityListener(listener);

        ActivityTraceId trace;
        using (var publishing = source.StartActivity("place order")!)
        {
            trace = publishing.TraceId;
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }

        await app.Probe.SeesAsync("traced");
        app.Probe.Of("traced").Single().What.Should().Be(trace);
        var delivery = await Eventually.BecomesAsync(
            () => Task.FromResult(spans.FirstOrDefault(span => span.Source.Name == OutboxBusTelemetry.Name && span.Links.Any(link => link.Context.TraceId == trace))),
            span => span is not null, "the delivery has a span that links to the publisher's");
        delivery!.OperationName.Should().Be("outboxbus deliver");
        delivery.TraceId.Should().NotBe(trace, "a message may leave hours later");
        delivery.Status.Should().Be(ActivityStatusCode.Unset);
    }

    [SkippableFact]
    public async Task Counters_move_with_what_happens()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>().Delivery(delivery => delivery.MaxAttempts = 2));
        using var counters = new Counters(app);

        var id = Guid.NewGuid();
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()), new PublishOptions { MessageId = id });
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the message is consumed");
        await app.Services.GetRequiredService<IBus>().Publish(new OrderPlaced(Guid.NewGuid()), context => context.MessageId = id);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 1, "the copy is recognised");
        await app.PublishAsync(new StockReserved(Guid.NewGuid()), new PublishOptions { RequireRoute = true });
        await stack.DrainedAsync();

        await Eventually.BecomesAsync(() => counters["outboxbus.dead_lettered"] == 1, "the dead letter is counted");
        counters["outboxbus.captured"].Should().Be(2);
        counters["outboxbus.delivered"].Should().Be(1);
        counters["outboxbus.delivery.latency"].Should().Be(1);
        counters["outboxbus.consumed"].Should().Be(1);
        counters["outboxbus.duplicates"].Should().Be(1);
        counters["outboxbus.claimed"].Should().Be(1, "the refused message was claimed for its second attempt");
        counters["outboxbus.retried"].Should().Be(1);
    }

    [SkippableFact]
    public async Task Gauges_show_the_outbox_and_the_circuit()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("gauges"), await rabbitMq.CreateVirtualHostAsync("gauges"));
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>().Health(health => health.GaugeInterval = TimeSpan.FromSeconds(1)));
        using var counters = new Counters(app);
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await Eventually.BecomesAsync(() => counters.Gauge("outboxbus.circuit.open") == 0, "the circuit is seen closed");

        await rabbitMq.KillAsync();
        for (var order = 0; order < 3; order++)
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await Eventually.BecomesAsync(() => counters.Gauge("outboxbus.circuit.open") == 1, "the circuit is seen open");
        await Eventually.BecomesAsync(() => counters.Gauge("outboxbus.pending") > 0, "what waits is seen");

        await rabbitMq.RestartAsync();
        await Eventually.BecomesAsync(() => counters.Gauge("outboxbus.circuit.open") == 0, "the circuit is seen closed again");
        await Eventually.BecomesAsync(() => counters.Gauge("outboxbus.pending") == 0, "nothing waits any more");
    }

    [SkippableFact]
    public async Task Health_is_degraded_by_dead_letters()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.MaxAttempts = 1));
        (await HealthAsync(app)).Status.Should().Be(HealthStatus.Healthy);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()), new PublishOptions { RequireRoute = true });
        await stack.DrainedAsync();

        var health = await HealthAsync(app);
        health.Status.Should().Be(HealthStatus.Degraded);
        health.Description.Should().Contain("dead letters");
    }

    [SkippableFact]
    public async Task Health_is_degraded_by_old_messages_and_not_by_the_broker()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("health"), await rabbitMq.CreateVirtualHostAsync("health"));
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<ReserveHandler>().Health(health => health.MaxPendingAge = TimeSpan.FromSeconds(5)));

        await rabbitMq.KillAsync();
        (await HealthAsync(app)).Status.Should().Be(HealthStatus.Healthy, "nothing waits yet");
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await Eventually.BecomesAsync(
            async () =>
            {
                var status = (await HealthAsync(app)).Status;
                status.Should().NotBe(HealthStatus.Unhealthy, "restarting the process would not bring the broker back");
                return status == HealthStatus.Degraded;
            },
            "the message is too old");
        await rabbitMq.RestartAsync();
        await stack.DrainedAsync();
        (await HealthAsync(app)).Status.Should().Be(HealthStatus.Healthy);
    }

    private static async Task<HealthReportEntry> HealthAsync(App app)
    {
        var report = await app.Services.GetRequiredService<HealthCheckService>().CheckHealthAsync(check => check.Name == "outboxbus");
        return report.Entries.Single().Value;
    }
}

public sealed class TracedHandler(Probe probe) : IMessageHandler<OrderPlaced>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("traced", Activity.Current?.TraceId);
        return Task.CompletedTask;
    }
}
