using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_broker_hangs
{
    private const string Queue = "spy";
    private const int Messages = 600;
    private const int Retrying = 206;
    private const int TransportFailed = 208;
    private const int TransportIsBack = 209;

    [SkippableFact]
    public async Task Under_load_nothing_is_lost_no_attempt_is_spent_and_the_outage_has_one_line()
    {
        var direct = await Servers.RabbitMqVirtualHostAsync("hang");
        await using var proxy = new TcpProxy(direct.Host, direct.Port);
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("hang"), new UriBuilder(direct) { Host = "127.0.0.1", Port = proxy.Port }.Uri);
        await using var broker = await RawBroker.ConnectAsync(direct);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        var arrived = await broker.CollectIdsAsync(Queue);
        await using var app = await App.StartAsync(stack);

        for (var message = 1; message <= Messages; message++)
        {
            if (message == Messages / 3)
                proxy.Freeze();
            if (message == Messages * 2 / 3)
                await Eventually.BecomesAsync(() => app.Logs.Count(TransportFailed) == 1, "the outage is noticed");
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }

        (await stack.ReadAsync(db => db.Outbox.CountAsync())).Should().BeGreaterThanOrEqualTo(Messages / 3);
        proxy.Thaw();

        await stack.DrainedAsync();
        await Eventually.BecomesAsync(() => arrived.Distinct().Count() == Messages, "all have arrived");
        app.Logs.Count(TransportFailed).Should().Be(1);
        app.Logs.Count(TransportIsBack).Should().Be(1);
        app.Logs.Count(Retrying).Should().Be(0, "a broker that hangs costs no attempt");
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }
}
