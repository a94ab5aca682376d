using System.Data.Common;
using FluentAssertions;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_database_is_away
{
    private const int DatabaseIsAway = 401;
    private const int DatabaseIsBack = 402;
    private const int Messages = 50;
    private const string Queue = "spy";

    [SkippableFact]
    public async Task Outage_of_many_tries_has_one_line_and_nothing_is_lost_or_sent_twice()
    {
        await using var postgres = await Servers.PrivatePostgresAsync();
        await using var stack = Stack.Of(await postgres.CreateDatabaseAsync("away"), await Servers.RabbitMqVirtualHostAsync("away"));
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        var arrived = await broker.CollectIdsAsync(Queue);
        var refusals = new RefusedConnections();
        await using var app = await App.StartAsync(
            stack,
            // Outcomes are still in memory when the database dies.
            bus => bus.Delivery(delivery => delivery.SettleDelay = TimeSpan.FromSeconds(1)),
            services => services.ConfigureDbContext<ShopDb>(db => db.AddInterceptors(refusals)));

        for (var message = 0; message < Messages; message++)
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await Eventually.BecomesAsync(() => arrived.Count == Messages, "all messages are confirmed");
        await postgres.KillAsync();
        await Eventually.BecomesAsync(() => refusals.Count >= 4, "the dead database has been tried again and again");
        await postgres.RestartAsync();

        await stack.DrainedAsync();
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await stack.DrainedAsync();
        await Eventually.BecomesAsync(() => app.Logs.Count(DatabaseIsBack) == 1, "the end is reported");
        app.Logs.All.Where(line => line.EventId is >= 400 and < 600).Select(line => line.EventId).Should().Equal(DatabaseIsAway, DatabaseIsBack);
        arrived.Should().HaveCount(Messages + 1).And.OnlyHaveUniqueItems("what was confirmed is kept in memory until it can be written");
    }

    private sealed class RefusedConnections : DbConnectionInterceptor
    {
        private int _count;

        public int Count => Volatile.Read(ref _count);

        public override Task ConnectionFailedAsync(DbConnection connection, ConnectionErrorEventData eventData, CancellationToken cancellationToken = default)
        {
            Interlocked.Increment(ref _count);
            return Task.CompletedTask;
        }
    }
}
