using System.Data.Common;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// After its last flush a handler's unit of work is sealed: a message published then would be lost, so its publisher is told.
public sealed class PublishedTooLate(SqliteDatabase database) : SuiteOn<SqliteDatabase>(database)
{
    [Fact]
    public async Task A_message_published_while_its_handler_commits_is_refused_and_nothing_is_committed()
    {
        var late = new LatePublisher();
        await using var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<PlaceOrderHandler>(handler => handler.RetryDelays = []),
            services => services.AddSingleton(late),
            context => context.AddInterceptors(late),
            delivers: true);
        await shop.StartAsync();

        await shop.Services.GetRequiredService<IBus>().Publish(new PlaceOrder("A-1"));
        await Eventually.BecomesAsync(() => late.Refusal is not null, "the message was refused");
        await shop.StopAsync();

        late.Refusal.Should().BeOfType<OutboxBusException>().Which.Message.Should().Contain("OrderPlaced was published after its unit of work had been sealed");
        await using var context = Database.CreateShop();
        (await context.Orders.CountAsync()).Should().Be(0);
        (await context.Set<InboxMessage>().CountAsync()).Should().Be(0);
        (await context.Set<Envelope>().CountAsync()).Should().Be(0);
    }

    public sealed record PlaceOrder(string Number);

    public sealed class PlaceOrderHandler(ShopDb db, LatePublisher late) : IMessageHandler<PlaceOrder>
    {
        public Task Handle(PlaceOrder message, IMessageContext context, CancellationToken cancellationToken)
        {
            late.Handling = (db, context);
            db.Add(new Order { Number = message.Number });
            return Task.CompletedTask;
        }
    }

    public sealed class LatePublisher : DbTransactionInterceptor
    {
        private volatile Exception? _refusal;

        public (DbContext Db, IMessageContext Context)? Handling { get; set; }

        public Exception? Refusal => _refusal;

        public override async ValueTask<InterceptionResult> TransactionCommittingAsync(DbTransaction transaction, TransactionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
        {
            if (Handling is { } handling && handling.Db == eventData.Context)
            {
                try
                {
                    await handling.Context.Publish(new OrderPlaced("too late"), cancellationToken: cancellationToken);
                }
                catch (Exception refusal)
                {
                    _refusal = refusal;
                    throw;
                }
            }

            return result;
        }
    }
}
