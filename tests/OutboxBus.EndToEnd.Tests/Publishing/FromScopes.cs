using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Consuming;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Publishing;

// When the messages of a scope leave, and what leaves without them.
public sealed class FromScopes
{
    public static TheoryData<StackKind> Kinds => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Each_save_of_a_scope_lets_the_messages_go_that_were_published_before_it(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<NoteHandler>());

        await app.InScopeAsync(async (services, db) =>
        {
            var publisher = services.GetRequiredService<IPublishEndpoint>();
            await publisher.Publish(new Note("first"));
            await app.PublishAsync(new Note("other scope"));
            await app.Probe.SeesAsync("note", 1);
            await db.SaveChangesAsync();
            await app.Probe.SeesAsync("note", 2);
            await publisher.Publish(new Note("second"));
            await publisher.Publish(new Note("third"));
            await db.SaveChangesAsync();
            await app.Probe.SeesAsync("note", 4);
            await publisher.Publish(new Note("never"));
        });

        await stack.DrainedAsync();
        app.Probe.Of("note").Select(sighting => sighting.What).Take(2).Should().Equal("other scope", "first");
        app.Probe.Of("note").Select(sighting => sighting.What).Skip(2).Should().BeEquivalentTo(["second", "third"]);
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Messages_saved_before_the_bus_is_started_leave_when_it_is(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using (var db = stack.Open())
            await db.Database.EnsureCreatedAsync();
        var (host, _) = App.CreateHost(stack, bus => bus.AddHandler<NoteHandler>());
        using (host)
        {
            await using (var scope = host.Services.CreateAsyncScope())
            {
                await scope.ServiceProvider.GetRequiredService<IPublishEndpoint>().Publish(new Note("early"));
                await scope.ServiceProvider.GetRequiredService<ShopDb>().SaveChangesAsync();
            }

            (await stack.ReadAsync(db => db.Outbox.CountAsync())).Should().Be(1);
            await host.StartAsync();

            var probe = host.Services.GetRequiredService<Probe>();
            await probe.SeesAsync("note");
            await stack.DrainedAsync();
            probe.Of("note").Should().ContainSingle().Which.What.Should().Be("early");
            await host.StopAsync();
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task A_request_of_a_scope_goes_at_once_and_its_messages_do_not(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<NoteConsumer>().Endpoint(endpoint => endpoint.Name = "note");
            bus.AddConsumer<WeightConsumer>();
            bus.AddRequestClient<WeightAsked>(RequestTimeout.After(s: 30));
        });
        var order = Guid.NewGuid();

        await app.InScopeAsync(async (services, db) =>
        {
            await services.GetRequiredService<IPublishEndpoint>().Publish(new Note("with the order"));
            var answer = await services.GetRequiredService<IRequestClient<WeightAsked>>().GetResponse<WeightTold>(new WeightAsked(order));
            app.Probe.Of("note").Should().BeEmpty();
            (await stack.ReadAsync(read => read.Outbox.CountAsync(row => row.MessageType.Contains(nameof(Note))))).Should().Be(0);
            db.Add(new Order { Id = answer.Message.OrderId });
            await db.SaveChangesAsync();
        });

        await app.Probe.SeesAsync("note");
        (await stack.ReadAsync(db => db.Orders.SingleAsync())).Id.Should().Be(order);
    }
}
