using FluentAssertions;
using MassTransit;
using MassTransit.DependencyInjection;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Diagnostics;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Budgets;

// A consumed message costs the database a fixed number of round trips, whatever its handler publishes.
public sealed class ConsumingCosts(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const int Messages = 10;

    public static TheoryData<InboxMode, int, int, int> Handlers
    {
        get
        {
            var handlers = new TheoryData<InboxMode, int, int, int>();
            foreach (var mode in Enum.GetValues<InboxMode>())
            {
                foreach (var (rows, messages, cancellations) in ((int, int, int)[])[(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 10, 0), (0, 0, 1), (1, 1, 3)])
                    handlers.Add(mode, rows, messages, cancellations);
            }

            return handlers;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Handlers))]
    public async Task A_consumed_message_costs_its_round_trips_and_no_more(InboxMode mode, int rows, int messages, int cancellations)
    {
        // BEGIN travels with what comes first. The inbox record, unless it comes last; what the handler has changed and published; COMMIT.
        var roundTrips = mode == InboxMode.First ? 3 : 2;
        // All cancellations are one statement. If there is nothing else, it stands for the one that proves the transaction alive.
        if (cancellations > 0 && (mode == InboxMode.Last || rows + messages > 0))
            roundTrips++;
        using var consumed = new SemaphoreSlim(0);
        await using var tap = new PostgresTap(Database.ConnectionString);
        await using var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<Handler>().Inbox(inbox => inbox.Mode = mode),
            services =>
            {
                services.AddSingleton(new Work(rows, messages, cancellations));
                // Not the record itself, which is there before the answer to its COMMIT has passed the tap.
                services.AddSingleton(new FaultPoints((point, _) =>
                {
                    if (point == FaultPoint.AfterConsume)
                        consumed.Release();
                    return ValueTask.CompletedTask;
                }));
                // Only consumers go through the tap; delivery, whose statements many messages share, goes past it.
                services.ConfigureDbContext<ShopDb>((provider, options) =>
                {
                    if (provider.GetRequiredService<IScopedConsumeContextProvider>().HasContext)
                        options.UseNpgsql(tap.ConnectionString);
                });
            },
            delivers: true);
        await shop.StartAsync();
        // Opens the connection, on which the driver loads types.
        await ConsumeAsync(shop, consumed, 1);
        var before = tap.RoundTrips;

        await ConsumeAsync(shop, consumed, Messages);
        await shop.StopAsync();

        (tap.RoundTrips - before).Should().Be(roundTrips * Messages);
        await using var context = Database.CreateShop();
        (await context.Orders.CountAsync()).Should().Be(rows * (1 + Messages));
    }

    // One after the other: consumers at the same time would open connections of their own.
    private static async Task ConsumeAsync(Shop shop, SemaphoreSlim consumed, int times)
    {
        for (var time = 0; time < times; time++)
        {
            await shop.Services.GetRequiredService<IBus>().Publish(new PlaceOrder($"{Guid.NewGuid()}"));
            (await consumed.WaitAsync(Eventually.Limit)).Should().BeTrue("the message is consumed");
        }
    }

    public sealed record PlaceOrder(string Number);

    public sealed record Work(int Rows, int Messages, int Cancellations);

    public sealed class Handler(ShopDb db, Work work) : IMessageHandler<PlaceOrder>
    {
        public async Task Handle(PlaceOrder message, IMessageContext context, CancellationToken cancellationToken)
        {
            for (var row = 0; row < work.Rows; row++)
                db.Add(new Order { Number = $"{message.Number}-{row}" });
            for (var published = 0; published < work.Messages; published++)
                await context.Publish(new OrderPlaced(message.Number), cancellationToken: cancellationToken);
            for (var cancelled = 0; cancelled < work.Cancellations; cancelled++)
                await context.CancelScheduled(Guid.NewGuid(), cancellationToken);
        }
    }
}
