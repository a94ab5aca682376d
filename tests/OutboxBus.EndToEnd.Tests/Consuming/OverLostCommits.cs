using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// The connection to the database breaks during COMMIT: before it arrives, or before its answer does.
public sealed class OverLostCommits
{
    private const int CommitWasDone = 302;

    [SkippableTheory]
    [InlineData(InboxMode.First, false)]
    [InlineData(InboxMode.First, true)]
    [InlineData(InboxMode.Last, false)]
    [InlineData(InboxMode.Last, true)]
    public async Task A_handler_whose_commit_was_done_has_its_effects_once_and_no_fault(InboxMode mode, bool retriesOnFailure)
    {
        await using var link = new PostgresLink(await Servers.PostgresDatabaseAsync("end"));
        await using var stack = Stack.Of(link.ConnectionString, await Servers.RabbitMqVirtualHostAsync("end"), mode);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<CutHandler>().AddHandler<FaultHandler>().AddHandler<LeafHandler>(), services =>
        {
            services.AddSingleton(link);
            if (retriesOnFailure)
                RetryOnFailure(services, link);
        });

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("leaf");
        await stack.DrainedAsync();
        link.Proxy.Lost.Should().Be(1);
        app.Logs.Count(CommitWasDone).Should().Be(1);
        (await stack.EffectsAsync()).Should().Be(1);
        (await stack.ReadAsync(db => db.Inbox.CountAsync(record => record.Consumer.Contains(nameof(CutHandler))))).Should().Be(1);
        app.Probe.Of("cut").Should().ContainSingle();
        app.Probe.Of("leaf").Should().ContainSingle();
        app.Probe.Of("fault").Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(Loss.Answer)]
    [InlineData(Loss.Request)]
    public async Task An_operation_committed_once_has_one_row_and_its_message_arrives_once(Loss loss)
    {
        await using var link = new PostgresLink(await Servers.PostgresDatabaseAsync("end"));
        await using var stack = Stack.Of(link.ConnectionString, await Servers.RabbitMqVirtualHostAsync("end"));
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<FirstHandler>(), services => RetryOnFailure(services, link));
        var runs = 0;

        await app.InScopeAsync((services, db) => db.CommitOnceAsync(
            async cancellationToken =>
            {
                if (++runs == 1)
                    link.LoseNextCommit(loss);
                var order = new Order();
                db.Add(order);
                await services.GetRequiredService<IOutboxContext>().Publish(new OrderPlaced(order.Id), cancellationToken: cancellationToken);
            },
            default));

        await app.Probe.SeesAsync("first");
        await stack.DrainedAsync();
        link.Proxy.Lost.Should().Be(1);
        runs.Should().Be(loss == Loss.Answer ? 1 : 2);
        (await stack.ReadAsync(db => db.Orders.CountAsync())).Should().Be(1);
        app.Probe.Of("first").Should().ContainSingle();
        (await stack.EffectsAsync()).Should().Be(1);
    }

    private static void RetryOnFailure(IServiceCollection services, PostgresLink link) => services.ConfigureDbContext<ShopDb>(
        options => options.UseNpgsql(link.ConnectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.FromMilliseconds(50), null)));
}

public sealed class CutHandler(ShopDb db, Probe probe, PostgresLink link) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("cut");
        db.Add(new Effect { OrderId = message.OrderId, By = "cut" });
        await context.Publish(new Leaf("cut"), cancellationToken: cancellationToken);
        if (link.Proxy.Lost == 0)
            link.LoseNextCommit(Loss.Answer);
    }
}
