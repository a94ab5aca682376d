using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_the_backlog_is_larger_than_memory
{
    private const string Queue = "spy";
    private const int Messages = 20_000;
    private const int Commit = 200;
    private const int Retrying = 206;
    private const int TransportFailed = 208;

    [SkippableFact]
    public async Task What_the_hand_off_cannot_hold_waits_in_the_database_and_all_is_delivered_when_the_broker_is_back()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("backlog"), await rabbitMq.CreateVirtualHostAsync("backlog"));
        await using (var broker = await RawBroker.ConnectAsync(stack.Broker!))
            await broker.BindAsync(Queue, typeof(Padded));
        await using var app = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.HandOffMessages = 1000));
        await rabbitMq.KillAsync();
        var padding = new string('x', 2048);
        for (var message = 0; message < Messages; message += Commit)
        {
            await app.InScopeAsync(async (services, db) =>
            {
                var outbox = services.GetRequiredService<IOutboxContext>();
                for (var one = 0; one < Commit; one++)
                    await outbox.Publish(new Padded(padding));
                await db.SaveChangesAsync();
            });
        }

        (await stack.ReadAsync(db => db.Outbox.CountAsync())).Should().Be(Messages);
        await Eventually.BecomesAsync(() => app.Logs.Count(TransportFailed) == 1, "the outage is noticed");
        (await stack.ReadAsync(db => db.Outbox.CountAsync(row => row.Attempts > 0))).Should().Be(0);
        await rabbitMq.RestartAsync();

        await stack.DrainedAsync();
        await using var healed = await RawBroker.ConnectAsync(stack.Broker!);
        var arrived = await healed.CollectIdsAsync(Queue);
        await Eventually.BecomesAsync(() => arrived.Distinct().Count() == Messages, "all have arrived");
        app.Logs.Count(Retrying).Should().Be(0);
        app.Logs.Count(TransportFailed).Should().Be(1);
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }
}

public sealed record Padded(string Padding);
