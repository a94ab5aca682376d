using System.Collections.Concurrent;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Diagnostics;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Consuming;

// An attempt that gets the very context of the one that failed finds nothing of that in it.
public abstract class PooledContextsOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task A_retry_finds_nothing_of_the_attempt_before_in_its_pooled_context(InboxMode mode)
    {
        using var consumed = new SemaphoreSlim(0);
        var attempts = new ConcurrentQueue<(DbContextId Id, int Tracked)>();
        await using var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<Handler>(handler => handler.RetryDelays = [TimeSpan.Zero, TimeSpan.Zero]).Inbox(inbox => inbox.Mode = mode),
            services => services
                .AddSingleton(attempts)
                .AddSingleton(new FaultPoints((point, _) =>
                {
                    if (point == FaultPoint.AfterConsume)
                        consumed.Release();
                    return ValueTask.CompletedTask;
                })),
            pooled: true);
        await shop.StartAsync();

        await shop.Services.GetRequiredService<IBus>().Publish(new PlaceOrder("A"));
        (await consumed.WaitAsync(Eventually.Limit)).Should().BeTrue();

        attempts.Should().HaveCount(3).And.OnlyContain(attempt => attempt.Tracked == 0);
        attempts.Select(attempt => attempt.Id).Should().OnlyHaveUniqueItems();
        // After a failure the record is asked for, with Last, by a context that takes the pool's only place.
        if (mode == InboxMode.First)
            attempts.Select(attempt => attempt.Id.InstanceId).Distinct().Should().ContainSingle("the pool has one context");
        await using var context = Database.CreateShop();
        (await context.Orders.Select(order => order.Number).ToListAsync()).Should().Equal("A-3");
        (await context.Set<Envelope>().CountAsync()).Should().Be(1);
        (await context.Set<InboxMessage>().CountAsync()).Should().Be(1);
    }

    public sealed record PlaceOrder(string Number);

    public sealed class Handler(ShopDb db, ConcurrentQueue<(DbContextId, int)> attempts) : IMessageHandler<PlaceOrder>
    {
        public async Task Handle(PlaceOrder message, IMessageContext context, CancellationToken cancellationToken)
        {
            attempts.Enqueue((db.ContextId, db.ChangeTracker.Entries().Count()));
            db.Add(new Order { Number = $"{message.Number}-{context.Attempt}" });
            await context.Publish(new OrderPlaced(message.Number), cancellationToken: cancellationToken);
            if (context.Attempt == 1)
                throw new InvalidOperationException("Fails before it has saved.");
            await db.SaveChangesAsync(cancellationToken);
            if (context.Attempt == 2)
                throw new InvalidOperationException("Fails after it has saved.");
        }
    }
}

public sealed class PooledContextsOnSqlite(SqliteDatabase database) : PooledContextsOn<SqliteDatabase>(database);

public sealed class PooledContextsOnPostgreSql(PostgreSqlDatabase database) : PooledContextsOn<PostgreSqlDatabase>(database);
