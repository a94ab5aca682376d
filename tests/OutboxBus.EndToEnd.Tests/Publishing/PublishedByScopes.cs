using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Publishing;

public sealed class PublishedByScopes
{
    public static TheoryData<StackKind, bool> Applications => new()
    {
        { StackKind.PostgreSqlRabbitMq, true }, { StackKind.PostgreSqlRabbitMq, false },
        { StackKind.SqliteInMemory, true }, { StackKind.SqliteInMemory, false },
    };

    [SkippableTheory]
    [MemberData(nameof(Applications))]
    public async Task Messages_arrive_by_every_way_of_publishing_once_their_transaction_has_committed(StackKind kind, bool isNew)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = isNew
            ? await App.StartAsync(stack, bus => bus.AddHandler<NoteHandler>())
            : await App.StartMassTransitAsync(stack, bus => bus.AddConsumer<NoteConsumer>().Endpoint(endpoint => endpoint.Name = "note"));

        await app.InScopeAsync(async (services, db) =>
        {
            db.Add(new Order());
            var outbox = services.GetRequiredService<IOutboxContext>();
            await outbox.Publish(new Note("IOutboxContext.Publish"));
            await outbox.Publish((object)new Note("IOutboxContext.Publish(object)"), typeof(Note));
            await outbox.Send("note", new Note("IOutboxContext.Send"));
            await services.GetRequiredService<IPublishEndpoint>().Publish(new Note("IPublishEndpoint"));
            var endpoint = await services.GetRequiredService<ISendEndpointProvider>().GetSendEndpoint(new Uri("queue:note"));
            await endpoint.Send(new Note("ISendEndpointProvider"));
            (await db.SaveChangesAsync()).Should().Be(1, "the caller counts its own rows");
        });

        await app.Probe.SeesAsync("note", 5);
        await stack.DrainedAsync();
        app.Probe.Of("note").Select(sighting => sighting.What).Should().BeEquivalentTo(
            ["IOutboxContext.Publish", "IOutboxContext.Publish(object)", "IOutboxContext.Send", "IPublishEndpoint", "ISendEndpointProvider"]);
    }

    [SkippableTheory]
    [MemberData(nameof(Applications))]
    public async Task Messages_of_a_transaction_that_rolls_back_never_exist(StackKind kind, bool isNew)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = isNew
            ? await App.StartAsync(stack, bus => bus.AddHandler<NoteHandler>())
            : await App.StartMassTransitAsync(stack, bus => bus.AddConsumer<NoteConsumer>().Endpoint(endpoint => endpoint.Name = "note"));

        await app.InScopeAsync(async (services, db) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            db.Add(new Order());
            await services.GetRequiredService<IOutboxContext>().Publish(new Note("rolled back"));
            await db.SaveChangesAsync();
            await transaction.RollbackAsync();
        });
        await app.PublishAsync(new Note("committed"));

        await app.Probe.SeesAsync("note");
        await stack.DrainedAsync();
        (await stack.ReadAsync(db => db.Orders.CountAsync())).Should().Be(1);
        app.Probe.Of("note").Should().ContainSingle().Which.What.Should().Be("committed");
    }

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task Messages_published_into_contexts_of_a_factory_arrive_once_these_have_committed(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        await using var app = await App.StartAsync(
            stack,
            bus => bus.AddHandler<NoteHandler>(),
            services => services.AddDbContextFactory<ShopDb>(stack.UseDatabase, ServiceLifetime.Scoped));

        await app.InScopeAsync(async (services, _) =>
        {
            var factory = services.GetRequiredService<IDbContextFactory<ShopDb>>();
            var outbox = services.GetRequiredService<IOutboxContext>();
            for (var number = 1; number <= 3; number++)
            {
                await using var db = await factory.CreateDbContextAsync();
                using var enlistment = outbox.Enlist(db);
                await using var transaction = await db.Database.BeginTransactionAsync();
                db.Add(new Order());
                await services.GetRequiredService<IPublishEndpoint>().Publish(new Note($"{number}"));
                await db.SaveChangesAsync();
                if (number != 2)
                    await transaction.CommitAsync();
            }
        });

        await app.Probe.SeesAsync("note", 2);
        await stack.DrainedAsync();
        (await stack.ReadAsync(db => db.Orders.CountAsync())).Should().Be(2);
        app.Probe.Of("note").Select(sighting => sighting.What).Should().BeEquivalentTo(["1", "3"]);
    }
}

public sealed record Note(string Text);

public sealed class NoteHandler(Probe probe) : IMessageHandler<Note>
{
    public Task Handle(Note message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("note", message.Text);
        return Task.CompletedTask;
    }
}

public sealed class NoteConsumer(Probe probe) : IConsumer<Note>
{
    public Task Consume(ConsumeContext<Note> context)
    {
        probe.Saw("note", context.Message.Text);
        return Task.CompletedTask;
    }
}
