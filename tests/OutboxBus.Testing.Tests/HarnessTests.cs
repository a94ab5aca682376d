using System.Net;
using FluentAssertions;
using Microsoft.AspNetCore.TestHost;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Testing.Shop;
using Xunit;

namespace OutboxBus.Testing.Tests;

public sealed class HarnessTests
{
    [Fact]
    public async Task An_application_for_servers_that_are_not_there_runs_through_its_own_endpoints()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();

        var response = await app.GetTestClient().PostAsync("/orders/shoes", null);
        await harness.DrainAsync();

        response.StatusCode.Should().Be(HttpStatusCode.Created);
        harness.Delivered.Of<OrderPlaced>().Should().ContainSingle().Which.Sku.Should().Be("shoes");
        harness.Delivered.Of<StockReserved>().Should().ContainSingle("the handler's own message is drained too");
        harness.Consumed.EntriesOf<OrderPlaced>().Select(entry => entry.Consumer).Should().BeEquivalentTo([typeof(ReserveStockHandler).FullName, typeof(OrderState).FullName]);
        (await app.ReservationsAsync()).Should().Be(1);
    }

    [Fact]
    public async Task An_application_grown_up_with_MassTransit_runs_too()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShopOnMassTransit());
        var harness = app.Services.GetOutboxBusTestHarness();

        await app.PlaceAsync(Guid.NewGuid(), "shoes");
        await harness.DrainAsync();

        harness.Consumed.EntriesOf<OrderPlaced>().Select(entry => entry.Consumer).Should().BeEquivalentTo([typeof(StockConsumer).FullName, typeof(OrderState).FullName]);
        (await app.ReservationsAsync()).Should().Be(1);
    }

    [Fact]
    public async Task What_is_rolled_back_is_captured_only()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();

        await app.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(new OrderPlaced(Guid.NewGuid(), "rolled back"));
            await db.SaveChangesAsync();
            await transaction.RollbackAsync();
        });
        await app.PlaceAsync(Guid.NewGuid(), "kept");
        await harness.DrainAsync();

        harness.Captured.Of<OrderPlaced>().Select(order => order.Sku).Should().Equal("rolled back", "kept");
        harness.Committed.Of<OrderPlaced>().Select(order => order.Sku).Should().Equal("kept");
        harness.Delivered.Any<OrderPlaced>(order => order.Sku == "rolled back").Should().BeFalse();
    }

    [Fact]
    public async Task A_handler_that_fails_shows_its_attempts_and_leaves_nothing()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();

        await app.PlaceAsync(Guid.NewGuid(), "cursed");
        await harness.DrainAsync();

        harness.Consumptions.EntriesOf<OrderPlaced>().Where(entry => entry.Consumer.Contains("ReserveStock")).Select(entry => entry.Exception!.Message)
            .Should().Equal("There is none.", "There is none.");
        harness.Consumed.EntriesOf<OrderPlaced>().Should().ContainSingle("the saga has consumed it");
        harness.Delivered.Any<StockReserved>().Should().BeFalse();
        (await app.ReservationsAsync()).Should().Be(0);
    }

    [Fact]
    public async Task Days_pass_when_the_test_says_so_and_deliver_in_order()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();
        await app.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new Reminder("in two hours"), new PublishOptions { Delay = TimeSpan.FromHours(2) });
            await outbox.Publish(new Reminder("in an hour"), new PublishOptions { Delay = TimeSpan.FromHours(1) });
            await outbox.SchedulePublish(new Reminder("in a week"), DateTimeOffset.UtcNow.AddDays(7));
            await db.SaveChangesAsync();
        });

        await harness.AdvanceAsync(TimeSpan.FromMinutes(59));
        harness.Delivered.Any<Reminder>().Should().BeFalse();

        await harness.AdvanceAsync(TimeSpan.FromHours(3));
        harness.Delivered.Of<Reminder>().Select(reminder => reminder.Text).Should().Equal("in an hour", "in two hours");
        harness.Committed.Of<Reminder>().Should().HaveCount(3);

        await harness.AdvanceAsync(TimeSpan.FromDays(7));
        harness.Delivered.Of<Reminder>().Should().HaveCount(3);
    }

    [Fact]
    public async Task An_unpaid_order_is_cancelled_after_a_day_and_a_paid_one_is_not()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();
        var (unpaid, paid) = (Guid.NewGuid(), Guid.NewGuid());
        await app.PlaceAsync(unpaid, "shoes");
        await app.PlaceAsync(paid, "hat");
        await harness.DrainAsync();

        await app.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new OrderPaid(paid));
            await db.SaveChangesAsync();
        });
        await harness.AdvanceAsync(TimeSpan.FromDays(2));

        harness.Delivered.Of<OrderCancelled>().Should().Equal(new OrderCancelled(unpaid));
        harness.Delivered.Of<OrderTimedOut>().Should().Equal([new OrderTimedOut(unpaid)], "the other one was taken back");
        await app.InScopeAsync(async (db, _) =>
            (await db.Set<OrderState>().ToDictionaryAsync(order => order.CorrelationId, order => order.CurrentState)).Should().BeEquivalentTo(new Dictionary<Guid, string> { [unpaid] = "Cancelled", [paid] = "Done" }));
    }

    [Fact]
    public async Task A_broker_that_is_down_delays_messages_and_loses_none()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop(), options => options.TimeLimit = TimeSpan.FromSeconds(3));
        var harness = app.Services.GetOutboxBusTestHarness();
        harness.Faults.BrokerIsDown = true;

        await app.PlaceAsync(Guid.NewGuid(), "shoes");
        (await harness.Awaiting(it => it.DrainAsync()).Should().ThrowAsync<OutboxBusException>()).Which.Message.Should().Contain("1 message(s)").And.Contain("OrderPlaced").And.Contain("BrokerIsDown");
        harness.Delivered.All.Should().BeEmpty();
        harness.Committed.Of<OrderPlaced>().Should().ContainSingle();

        harness.Faults.BrokerIsDown = false;
        await harness.DrainAsync();
        harness.Delivered.Of<OrderPlaced>().Should().ContainSingle();
        (await app.ReservationsAsync()).Should().Be(1);
    }

    [Fact]
    public async Task A_message_delivered_twice_has_its_effects_once()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();
        harness.Faults.DeliverTwice<OrderPlaced>();

        await app.PlaceAsync(Guid.NewGuid(), "shoes");
        await harness.DrainAsync();

        harness.Consumptions.EntriesOf<OrderPlaced>().Count(entry => entry.IsDuplicate).Should().Be(2, "the handler and the saga have each recognised it");
        harness.Consumed.EntriesOf<OrderPlaced>().Should().HaveCount(2);
        (await app.ReservationsAsync()).Should().Be(1);
    }

    [Fact]
    public async Task A_crash_between_commit_and_hand_off_loses_nothing()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();
        harness.Faults.HandOffIsLost = true;

        await app.PlaceAsync(Guid.NewGuid(), "shoes");
        await harness.DrainAsync();
        harness.Delivered.All.Should().BeEmpty("nobody knows of it before its lease ends");
        harness.Committed.Of<OrderPlaced>().Should().ContainSingle();

        harness.Faults.HandOffIsLost = false;
        await harness.AdvanceAsync(TimeSpan.FromMinutes(1));
        harness.Delivered.Of<OrderPlaced>().Should().ContainSingle();
        (await app.ReservationsAsync()).Should().Be(1);
    }

    [Fact]
    public async Task A_refused_message_waits_for_its_back_off()
    {
        await using var app = await ShopHost.StartAsync(services => { services.AddShop(); services.AddRefusal(times: 3); });
        var harness = app.Services.GetOutboxBusTestHarness();

        await app.PlaceAsync(Guid.NewGuid(), "shoes");
        await harness.DrainAsync();
        harness.Delivered.Any<OrderPlaced>().Should().BeFalse("its back-off has not passed");

        await harness.AdvanceAsync(TimeSpan.FromMinutes(5));
        harness.Delivered.Of<OrderPlaced>().Should().ContainSingle();
    }

    [Fact]
    public async Task A_message_refused_for_ever_is_given_up_when_its_attempts_are()
    {
        await using var app = await ShopHost.StartAsync(services => { services.AddShop(); services.AddRefusal(times: int.MaxValue); });
        var harness = app.Services.GetOutboxBusTestHarness();

        await app.PlaceAsync(Guid.NewGuid(), "shoes");
        await harness.AdvanceAsync(TimeSpan.FromHours(1));

        await app.InScopeAsync(async (db, _) => (await db.Set<DeadLetter>().SingleAsync()).Reason.Should().Be(nameof(DeadLetterReason.Refused)));
        harness.Committed.Of<OrderPlaced>().Should().ContainSingle();
    }

    [Fact]
    public async Task A_message_expires_when_the_time_that_passes_says_so()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();
        harness.Faults.HandOffIsLost = true;
        await app.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new Reminder("worth ten seconds"), new PublishOptions { TimeToLive = TimeSpan.FromSeconds(10) });
            await outbox.Publish(new Reminder("worth an hour"), new PublishOptions { TimeToLive = TimeSpan.FromHours(1) });
            await db.SaveChangesAsync();
        });

        await harness.AdvanceAsync(TimeSpan.FromMinutes(1));

        harness.Delivered.Of<Reminder>().Should().Equal(new Reminder("worth an hour"));
        await app.InScopeAsync(async (db, _) => (await db.Set<DeadLetter>().SingleAsync()).Reason.Should().Be(nameof(DeadLetterReason.Expired)));
    }

    [Fact]
    public async Task What_is_committed_is_seen_on_its_way_too()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();
        for (var orders = 1; orders <= 100; orders++)
        {
            await app.InScopeAsync(async (db, outbox) =>
            {
                await outbox.Publish(new OrderPaid(Guid.NewGuid()));
                await db.SaveChangesAsync();
            });
            for (var looks = 0; looks < 5; looks++)
                harness.Committed.Of<OrderPaid>().Should().HaveCount(orders);
        }
    }

    [Fact]
    public async Task What_goes_past_the_outbox_or_is_never_saved_is_shown()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();

        await app.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new Reminder("stray"));
            await db.SaveChangesAsync();
            await outbox.Publish(new Reminder("never saved"));
        });
        await harness.DrainAsync();

        harness.Bypassed.Should().Equal("urn:message:OutboxBus.Testing.Shop:OrderCancelled");
        harness.Invoking(it => it.ThrowIfBypassed()).Should().Throw<OutboxBusException>().WithMessage("*OrderCancelled*IOutboxContext*");
        harness.Unsaved.Of<Reminder>().Should().Equal(new Reminder("never saved"));
    }

    [Fact]
    public async Task Two_harnesses_do_not_see_each_other()
    {
        async Task<int> RunAsync(int orders)
        {
            await using var app = await ShopHost.StartAsync(services => services.AddShop());
            for (var order = 0; order < orders; order++)
                await app.PlaceAsync(Guid.NewGuid(), "shoes");
            await app.Services.GetOutboxBusTestHarness().DrainAsync();
            return await app.ReservationsAsync();
        }

        (await Task.WhenAll(Enumerable.Range(1, 4).Select(orders => Task.Run(() => RunAsync(orders * 5))))).Should().Equal(5, 10, 15, 20);
    }

    [Fact]
    public async Task Many_requests_at_once_are_drained()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop());
        var harness = app.Services.GetOutboxBusTestHarness();

        await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => app.GetTestClient().PostAsync("/orders/shoes", null)));
        await harness.DrainAsync();

        harness.Delivered.Of<StockReserved>().Should().HaveCount(50);
        (await app.ReservationsAsync()).Should().Be(50);
    }

    [Fact]
    public async Task A_message_can_be_waited_for()
    {
        await using var app = await ShopHost.StartAsync(services => services.AddShop(), options => options.TimeLimit = TimeSpan.FromSeconds(1));
        var harness = app.Services.GetOutboxBusTestHarness();
        var waiting = harness.Consumed.WaitForAsync<OrderPlaced>(order => order.Sku == "hat");

        await app.PlaceAsync(Guid.NewGuid(), "hat");

        (await waiting).Sku.Should().Be("hat");
        (await harness.Delivered.Awaiting(list => list.WaitForAsync<Reminder>()).Should().ThrowAsync<OutboxBusException>()).Which.Message.Should().Contain("No Reminder").And.Contain("OrderPlaced");
    }

    [Fact]
    public void Without_an_outbox_or_before_it_there_is_no_harness()
    {
        new ServiceCollection().Invoking(services => services.AddOutboxBusTestHarness()).Should().Throw<OutboxBusException>().WithMessage("*after the application's AddOutboxBus*");
        new ServiceCollection().BuildServiceProvider().Invoking(provider => provider.GetOutboxBusTestHarness()).Should().Throw<OutboxBusException>().WithMessage("*AddOutboxBusTestHarness*");
    }
}
