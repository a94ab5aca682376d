using System.Globalization;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_messages_expire
{
    private const string Queue = "spy";
    private const int TransportFailed = 208;
    private static readonly TimeSpan Short = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(10);

    [SkippableFact]
    public async Task While_the_broker_is_down_they_become_dead_letters_and_the_others_carry_what_is_left()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("expiry"), await rabbitMq.CreateVirtualHostAsync("expiry"));
        await using (var broker = await RawBroker.ConnectAsync(stack.Broker!))
            await broker.BindAsync(Queue, typeof(OrderPlaced));
        await using var app = await App.StartAsync(stack);
        await rabbitMq.StopAsync();
        var (expiring, lasting) = (Guid.NewGuid(), Guid.NewGuid());
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()), new PublishOptions { MessageId = expiring, TimeToLive = Short });
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()), new PublishOptions { MessageId = lasting, TimeToLive = Long });
        await Eventually.BecomesAsync(() => app.Logs.Count(TransportFailed) == 1, "the outage is noticed");

        var letter = await Eventually.BecomesAsync(
            () => stack.ReadAsync(db => db.DeadLetters.SingleOrDefaultAsync()), letter => letter is not null, "the message is given up while the broker is down");
        await rabbitMq.RestartAsync();

        letter!.MessageId.Should().Be(expiring);
        letter.Reason.Should().Be(nameof(DeadLetterReason.Expired));
        letter.Attempts.Should().Be(0);
        letter.Body.Should().NotBeEmpty();
        await stack.DrainedAsync();
        await using var healed = await RawBroker.ConnectAsync(stack.Broker!);
        var delivered = await healed.TakeAsync(Queue);
        delivered.BasicProperties.MessageId.Should().Be(lasting.ToString());
        TimeSpan.FromMilliseconds(double.Parse(delivered.BasicProperties.Expiration!, CultureInfo.InvariantCulture))
            .Should().BePositive().And.BeLessThan(Long - Short, "the time in the outbox counts");
        (await healed.CountAsync(Queue)).Should().Be(0);
    }
}
