using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Killing;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class With_several_instances
{
    private const string Queue = "spy";

    // Whatever is sent twice must not have outlasted its lease or its send.
    private static readonly TimeSpan LongLease = TimeSpan.FromSeconds(20);

    [SkippableFact]
    public async Task Each_message_is_delivered_exactly_once_though_one_of_them_stops_in_between()
    {
        const int Instances = 3;
        const int MessagesEach = 300;
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        var arrived = await broker.CollectIdsAsync(Queue);
        var apps = new List<App>();
        for (var instance = 0; instance < Instances; instance++)
            apps.Add(await App.StartAsync(stack, Configure));

        // Rows of a process without delivery are anybody's: all instances claim at once.
        await using var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false));
        var publishing = apps.Append(publisher).Select(PublishAsync).ToList();
        await Eventually.BecomesAsync(() => arrived.Count > MessagesEach, "delivery is under way");
        await publishing[0];
        await apps[0].DisposeAsync();
        await Task.WhenAll(publishing);

        await stack.DrainedAsync();
        var stored = (Instances + 1) * MessagesEach;
        await Eventually.BecomesAsync(() => arrived.Count >= stored, "all have arrived");
        arrived.Should().HaveCount(stored).And.OnlyHaveUniqueItems("nobody was killed and nothing failed");
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
        foreach (var app in apps.Skip(1))
            await app.DisposeAsync();

        // The hand-off is small, so that instances claim each other's rows too.
        static void Configure(OutboxBusConfigurator bus) => bus.Delivery(delivery =>
        {
            delivery.HandOffMessages = 5;
            delivery.ClaimBatch = 20;
            delivery.PollInterval = TimeSpan.FromMilliseconds(20);
        });

        static async Task PublishAsync(App app)
        {
            for (var message = 0; message < MessagesEach; message++)
                await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }
    }

    [SkippableFact]
    public async Task Killed_instance_leaves_its_messages_to_the_others_and_only_its_own_may_arrive_twice()
    {
        await using var ledger = await Ledger.OpenAsync();
        var spy = $"{Queue}-ids";
        await ledger.Broker.BindAsync(spy, typeof(Workload.OrderPlaced));
        var arrived = await ledger.Broker.CollectIdsAsync(spy);
        await ledger.LeaseFreshRowsAsync(LongLease);
        var settings = ledger.Settings with { Consumes = true, Messages = 400, Lease = LongLease };
        await using var first = await Worker.StartAsync(settings);
        await using var second = await Worker.StartAsync(settings);
        HashSet<string> unsettled;
        await using (await Worker.StartAsync(settings))
            await Eventually.BecomesAsync(() => arrived.Count >= 200, "delivery is under way");
        unsettled = [.. (await ledger.OutboxAsync()).Select(row => row.MessageId.ToString())];

        await first.PlacedAllAsync();
        await second.PlacedAllAsync();
        await Eventually.BecomesAsync(ledger.BalanceAsync, balance => balance.IsSettled, "every order has its effects");

        arrived.Distinct().Should().HaveCount(await ledger.OrdersAsync());
        arrived.GroupBy(id => id).Where(copies => copies.Count() > 1).Select(copies => copies.Key).Should().BeSubsetOf(
            unsettled, "only what was not settled when the process died may have been sent by it and by another");
        await first.StopAsync();
        await second.StopAsync();
        await ledger.AssertBalancedAsync();
    }
}
