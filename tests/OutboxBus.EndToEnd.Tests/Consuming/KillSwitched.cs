using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

public sealed class KillSwitched
{
    private const int Failing = 2;

    public static TheoryData<StackKind> Stacks => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task An_endpoint_that_was_stopped_for_its_failures_consumes_again_and_delivery_goes_on_meanwhile(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<FailingConsumer>();
            bus.AddConsumer<LeafConsumer>();
            bus.AddConfigureEndpointsCallback((_, name, endpoint) =>
            {
                if (name == "failing")
                    endpoint.UseKillSwitch(options => options.SetActivationThreshold(1).SetTripThreshold(0.5).SetRestartTimeout(TimeSpan.FromSeconds(2)));
            });
        });

        for (var message = 0; message < Failing; message++)
            await app.PublishAsync(new Flaky(message));
        await app.Probe.SeesAsync("failing", Failing);
        await Eventually.BecomesAsync(() => app.Logs.All.Any(line => line.Text.Contains("Kill Switch stopped endpoint", StringComparison.Ordinal)), "the switch has tripped");

        await app.PublishAsync(new Leaf("meanwhile"));
        await app.PublishAsync(new Flaky(Failing));
        await app.Probe.SeesAsync("leaf");
        await stack.DrainedAsync();

        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the endpoint consumes again");
        (await stack.ReadAsync(db => db.Inbox.CountAsync(row => row.Consumer.Contains(nameof(FailingConsumer))))).Should().Be(1, "what failed was not consumed");
    }

    public sealed record Flaky(int Number);

    public sealed class FailingConsumer(ShopDb db, Probe probe) : IConsumer<Flaky>
    {
        public Task Consume(ConsumeContext<Flaky> context)
        {
            probe.Saw("failing");
            db.Add(new Effect { OrderId = Guid.NewGuid(), By = "failing" });
            return context.Message.Number < Failing ? throw new InvalidOperationException("It fails at first.") : Task.CompletedTask;
        }
    }
}
