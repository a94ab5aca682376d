using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Budgets;

// Under load many messages share each of delivery's statements.
public sealed class DeliveryCosts(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const double PerMessage = 0.02;
    private const int Batch = 100;

    [SkippableFact]
    public async Task Messages_that_are_handed_off_share_their_deletion()
    {
        const int Messages = 5_000;
        await using var tap = new PostgresTap(Database.ConnectionString);
        await using var shop = Shop.Create(Database, Unhurried, delivers: true, connectionString: tap.ConnectionString);
        await shop.StartAsync();
        var before = tap.Statements;

        await PublishAsync(shop, Messages);
        await DeliveredAsync();
        await shop.StopAsync();

        shop.Sent.Should().HaveCount(Messages).And.OnlyContain(envelope => envelope.ClaimCount == 0);
        (tap.Statements - before).Should().BePositive().And.BeLessThanOrEqualTo((long)(PerMessage * Messages));
    }

    [SkippableFact]
    public async Task Messages_that_are_claimed_share_their_claim_and_their_deletion()
    {
        const int Messages = 10_000;
        await using (var publisher = Shop.Create(Database))
            await PublishAsync(publisher, Messages);
        await using var tap = new PostgresTap(Database.ConnectionString);
        await using var shop = Shop.Create(Database, Unhurried, delivers: true, connectionString: tap.ConnectionString);

        await shop.StartAsync();
        await DeliveredAsync();
        await shop.StopAsync();

        shop.Sent.Should().HaveCount(Messages).And.OnlyContain(envelope => envelope.ClaimCount == 1);
        tap.Statements.Should().BePositive().And.BeLessThanOrEqualTo((long)(PerMessage * Messages));
    }

    // However long a busy machine takes, not the passing of time is to be counted.
    private static void Unhurried(OutboxBusConfigurator bus)
        => bus.Delivery(delivery => (delivery.SettleDelay, delivery.PollInterval) = (TimeSpan.FromSeconds(1), TimeSpan.FromMinutes(1)));

    // Past the tap, which is to see delivery only.
    private Task PublishAsync(Shop shop, int messages)
        => Task.WhenAll(Enumerable.Range(0, messages / Batch).Select(_ => shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.SetConnectionString(Database.ConnectionString);
            for (var message = 0; message < Batch; message++)
                await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        })));

    private async Task DeliveredAsync()
    {
        await using var context = Database.CreateShop();
        await Eventually.BecomesAsync(() => context.Set<Envelope>().CountAsync(), rows => rows == 0, "the outbox is empty");
    }
}
