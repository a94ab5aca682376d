using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Publishing;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// Filters of the application, which may want the scope of whoever publishes or consumes.
public sealed class Filtered
{
    public static TheoryData<StackKind> Kinds => [StackKind.PostgreSqlRabbitMq, StackKind.SqliteInMemory];

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public async Task Publish_and_send_filters_see_each_message_once_in_the_scope_that_publishes_it(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        stack.ConfigureTransport = (context, transport) =>
        {
            transport.UsePublishFilter(typeof(MarkingPublishFilter<>), context, types => types.Include<Leaf>());
            transport.UseSendFilter(typeof(MarkingSendFilter<>), context, types => types.Include<Leaf>());
        };
        await using var app = await StartAsync(stack, bus =>
        {
            bus.AddConsumer<MarkedConsumer>().Endpoint(endpoint => endpoint.Name = "marked");
            bus.AddConsumer<MarkConsumer>().Endpoint(endpoint =>
            {
                endpoint.Name = "mark";
                endpoint.ConcurrentMessageLimit = 1;
                endpoint.PrefetchCount = 1;
            });
        });

        var scoped = Guid.Empty;
        await app.InScopeAsync(async (services, db) =>
        {
            scoped = services.GetRequiredService<Mark>().Id;
            await services.GetRequiredService<IPublishEndpoint>().Publish(new Leaf("published in a scope"));
            await (await services.GetRequiredService<ISendEndpointProvider>().GetSendEndpoint(new Uri("queue:mark"))).Send(new Leaf("sent in a scope"));
            await services.GetRequiredService<IPublishEndpoint>().Publish(new OrderPlaced(Guid.NewGuid()));
            await db.SaveChangesAsync();
        });

        await app.Probe.SeesAsync("mark", 6);
        await stack.DrainedAsync();
        var filtered = app.Probe.Of("filter").Count;
        await app.PublishDirectlyAsync(new Leaf("fence"));
        await app.Probe.SeesAsync("mark", 7);
        var consumer = (Guid)app.Probe.Of("marked").Single().What!;
        consumer.Should().NotBe(scoped);
        app.Probe.Of("mark").Select(sighting => ((string From, string Mark))sighting.What!).Where(seen => seen.From != "fence").Should().BeEquivalentTo(
        [
            ("published in a scope", $"published {scoped}"), ("sent in a scope", $"sent {scoped}"),
            ("context.Publish", $"published {consumer}"), ("context.Send", $"sent {consumer}"),
            ("IPublishEndpoint", $"published {consumer}"), ("ISendEndpointProvider", $"sent {consumer}"),
        ]);
        filtered.Should().Be(6, "what is delivered has been filtered");
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_consume_filter_shares_the_consumers_scope_and_what_it_publishes_and_stores_is_part_of_the_transaction(StackKind kind, InboxMode mode)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync(stack, bus =>
        {
            bus.AddConsumer<WeighingConsumer>();
            bus.AddConfigureEndpointsCallback((context, name, endpoint) =>
            {
                if (name != "weighing")
                    return;
                endpoint.UseMessageRetry(retry => retry.Immediate(1));
                endpoint.UseConsumeFilter(typeof(PublishingFilter<>), context);
            });
            bus.Watch<Note>();
            bus.Watch<Fault<StockReserved>>();
        });
        var (lost, kept) = (new StockReserved(Guid.Empty), new StockReserved(Guid.NewGuid()));

        await app.PublishAsync(lost);
        await app.Probe.SeesAsync<Fault<StockReserved>>();
        await app.PublishAsync(kept);

        await app.Probe.SeesAsync<Note>(2);
        await app.SettledAsync(stack);
        app.Probe.Seen<Note>().Should().BeEquivalentTo([new Note($"filter {kept.OrderId}"), new Note($"consumer {kept.OrderId}")]);
        (await stack.ReadAsync(db => db.Effects.Select(effect => effect.By).Order().ToListAsync())).Should().Equal("consumer", "filter");
        app.Probe.Of("weighing").Should().HaveCount(4).And.OnlyHaveUniqueItems();
        app.Probe.Of("weighing").Select(sighting => sighting.What).Should().Equal(app.Probe.Of("filter").Select(sighting => sighting.What));
    }

    private static Task<App> StartAsync(Stack stack, Action<IBusRegistrationConfigurator> configure)
        => App.StartMassTransitAsync(stack, configure, services: services => services.AddScoped<Mark>());

    public sealed class Mark
    {
        public Guid Id { get; } = Guid.NewGuid();
    }

    public sealed class MarkingPublishFilter<T>(Mark mark, Probe probe) : IFilter<PublishContext<T>>
        where T : class
    {
        public Task Send(PublishContext<T> context, IPipe<PublishContext<T>> next)
        {
            probe.Saw("filter");
            context.Headers.Set("Mark", $"published {mark.Id}");
            return next.Send(context);
        }

        public void Probe(ProbeContext context) => context.CreateFilterScope("marking");
    }

    public sealed class MarkingSendFilter<T>(Mark mark, Probe probe) : IFilter<SendContext<T>>
        where T : class
    {
        public Task Send(SendContext<T> context, IPipe<SendContext<T>> next)
        {
            probe.Saw("filter");
            context.Headers.Set("Mark", $"sent {mark.Id}");
            return next.Send(context);
        }

        public void Probe(ProbeContext context) => context.CreateFilterScope("marking");
    }

    public sealed class PublishingFilter<T>(ShopDb db, IPublishEndpoint publisher, Mark mark, Probe probe) : IFilter<ConsumeContext<T>>
        where T : class
    {
        public async Task Send(ConsumeContext<T> context, IPipe<ConsumeContext<T>> next)
        {
            probe.Saw("filter", mark.Id);
            var order = ((StockReserved)(object)context.Message).OrderId;
            db.Add(new Effect { OrderId = order, By = "filter" });
            await publisher.Publish(new Note($"filter {order}"));
            await next.Send(context);
        }

        public void Probe(ProbeContext context) => context.CreateFilterScope("publishing");
    }

    public sealed class MarkedConsumer(Mark mark, Probe probe, IPublishEndpoint publisher, ISendEndpointProvider sender) : IConsumer<OrderPlaced>
    {
        public async Task Consume(ConsumeContext<OrderPlaced> context)
        {
            probe.Saw("marked", mark.Id);
            await context.Publish(new Leaf("context.Publish"));
            await context.Send(new Uri("queue:mark"), new Leaf("context.Send"));
            await publisher.Publish(new Leaf("IPublishEndpoint"));
            await (await sender.GetSendEndpoint(new Uri("queue:mark"))).Send(new Leaf("ISendEndpointProvider"));
        }
    }

    public sealed class MarkConsumer(Probe probe) : IConsumer<Leaf>
    {
        public Task Consume(ConsumeContext<Leaf> context)
        {
            probe.Saw("mark", (context.Message.From, context.Headers.Get<string>("Mark")));
            return Task.CompletedTask;
        }
    }

    public sealed class WeighingConsumer(ShopDb db, Mark mark, Probe probe) : IConsumer<StockReserved>
    {
        public async Task Consume(ConsumeContext<StockReserved> context)
        {
            probe.Saw("weighing", mark.Id);
            var order = context.Message.OrderId;
            db.Add(new Effect { OrderId = order, By = "consumer" });
            await context.Publish(new Note($"consumer {order}"));
            if (order == Guid.Empty || context.GetRetryAttempt() == 0)
                throw new InvalidOperationException("This attempt fails.");
        }
    }
}
