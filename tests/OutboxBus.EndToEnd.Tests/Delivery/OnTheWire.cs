using System.Net.Mime;
using System.Text;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Diagnostics;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class OnTheWire
{
    private const string Queue = "wire";
    private static readonly TimeSpan TimeToLive = TimeSpan.FromMinutes(10);

    // What a publisher may set beside the message, all of it and little of it: a transport that is told nothing must set nothing.
    internal static readonly Dictionary<string, Action<SendContext>> Ways = new()
    {
        ["with nothing set"] = static _ => { },
        ["with a routing key"] = static context => context.SetRoutingKey("north"),
        ["with a priority"] = static context => context.SetPriority(4),
        ["not persistent"] = static context => context.Durable = false,
        ["with another content type"] = static context => context.ContentType = new ContentType("application/vnd.shop+json; charset=utf-8"),
        ["copied to other queues"] = static context => context.Headers.Set("CC", new[] { "one", "two" }),
        ["with everything set"] = SetEverything,
    };

    public static TheoryData<WireFormat> Formats => [.. Enum.GetValues<WireFormat>()];

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public async Task A_delivered_message_equals_one_published_or_sent_directly(WireFormat format)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        stack.ConfigureRabbitMq = transport => transport.Use(format);
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync("published", typeof(OrderPlaced));
        await broker.BindAsync("of-the-base", typeof(IOrderEvent));
        await using var app = await App.StartAsync(stack);
        var bus = app.Services.GetRequiredService<IBus>();
        var queue = new Uri("queue:sent");

        foreach (var (way, set) in Ways)
        {
            var message = new OrderPlaced(Guid.NewGuid());
            var (messageId, conversationId) = (Guid.NewGuid(), Guid.NewGuid());
            await app.InScopeAsync(async (services, db) =>
            {
                await services.GetRequiredService<IPublishEndpoint>().Publish<OrderPlaced>(message, Set);
                var endpoint = await services.GetRequiredService<ISendEndpointProvider>().GetSendEndpoint(queue);
                await endpoint.Send<OrderPlaced>(message, Set);
                await db.SaveChangesAsync();
            });
            await stack.DrainedAsync();
            await bus.Publish<OrderPlaced>(message, Set);
            await (await bus.GetSendEndpoint(queue)).Send<OrderPlaced>(message, Set);

            foreach (var name in (string[])["published", "of-the-base", "sent"])
            {
                var delivered = WireImage.Timeless(await broker.TakeAsync(name));
                delivered.Should().Equal(WireImage.Timeless(await broker.TakeAsync(name)), $"it is {name} {way}");
            }

            void Set(SendContext context)
            {
                (context.MessageId, context.ConversationId) = (messageId, conversationId);
                set(context);
            }
        }
    }

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public async Task A_message_sent_again_after_a_restart_is_the_same_byte_for_byte(WireFormat format)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        stack.ConfigureRabbitMq = transport => transport.Use(format);
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        var sent = new TaskCompletionSource();
        Envelope row, rowThen;
        await using (var app = await App.StartAsync(stack, services: services => services.AddSingleton(new FaultPoints((point, _) =>
        {
            if (point != FaultPoint.AfterSend)
                return ValueTask.CompletedTask;
            sent.TrySetResult();
            throw new InvalidOperationException("What was confirmed is never settled.");
        }))))
        {
            await app.InScopeAsync(async (services, db) =>
            {
                await services.GetRequiredService<IPublishEndpoint>().Publish(new OrderPlaced(Guid.NewGuid()), context =>
                {
                    SetEverything(context);
                    // What is left of it is told to the broker, and that is less each time.
                    context.TimeToLive = null;
                });
                await db.SaveChangesAsync();
            });
            row = await stack.ReadAsync(db => db.Outbox.AsNoTracking().SingleAsync());
            await Eventually.CompletesAsync(sent.Task);
        }

        rowThen = await stack.ReadAsync(db => db.Outbox.AsNoTracking().SingleAsync());
        // Not waiting for its lease.
        await stack.ReadAsync(db => db.Outbox.ExecuteUpdateAsync(rows => rows.SetProperty(envelope => envelope.VisibleAt, DateTime.UnixEpoch)));
        await using (await App.StartAsync(stack))
            await stack.DrainedAsync();

        var (first, again) = (await broker.TakeAsync(Queue), await broker.TakeAsync(Queue));
        WireImage.Of(again).Should().Equal(WireImage.Of(first));
        first.Body.ToArray().Should().Equal(row.Body);
        first.BasicProperties.ContentType.Should().Be(row.ContentType);
        first.BasicProperties.MessageId.Should().Be($"{row.MessageId}");
        rowThen.Should().BeEquivalentTo(row);
    }

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public async Task A_message_is_consumed_as_it_was_published_however_it_was_serialized(WireFormat format)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        stack.ConfigureRabbitMq = transport => transport.Use(format);
        await using var app = await App.StartAsync(stack, bus => bus.AddHandler<WireHandler>());
        var message = new OrderPlaced(Guid.NewGuid());

        await app.PublishAsync(message);

        await app.Probe.SeesAsync("wire");
        app.Probe.Of("wire").Select(sighting => sighting.What).Should().Equal(message);
    }

    internal static void SetEverything(SendContext context)
    {
        var id = Guid.Parse("5a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69");
        context.CorrelationId = Guid.Parse("0a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69");
        context.InitiatorId = Guid.Parse("1a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69");
        context.RequestId = Guid.Parse("2a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69");
        context.SourceAddress = new Uri("queue:source");
        context.ResponseAddress = new Uri("rabbitmq://broker/shop%2Fnorth/response?bind=true&queue=a%20b%26c");
        context.FaultAddress = new Uri("exchange:fault-ü?type=topic");
        context.TimeToLive = TimeToLive;
        context.SetPriority(4);
        context.SetRoutingKey("north");
        foreach (var (name, value) in new Dictionary<string, object>
        {
            ["text"] = "grün \"and\" <more> 😀\0",
            ["empty"] = "",
            ["grün"] = "a name",
            ["true"] = true,
            ["false"] = false,
            ["byte"] = byte.MaxValue,
            ["sbyte"] = sbyte.MinValue,
            ["short"] = short.MinValue,
            ["ushort"] = ushort.MaxValue,
            ["int"] = int.MinValue,
            ["uint"] = uint.MaxValue,
            ["long"] = long.MinValue,
            ["float"] = 1.1f,
            ["double"] = double.Epsilon,
            ["decimal"] = 12.500m,
            ["guid"] = id,
            ["utc"] = new DateTime(2026, 1, 2, 3, 4, 5, 678, DateTimeKind.Utc),
            ["local"] = new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Local),
            ["unspecified"] = new DateTime(2026, 7, 2, 3, 4, 5, DateTimeKind.Unspecified),
            ["offset"] = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.FromHours(5)),
            ["uri"] = new Uri("http://shop/a%20b%2Fc?d=%26"),
            ["bytes"] = new byte[] { 0, 128, 255 },
            ["texts"] = new[] { "a", "b" },
            ["BCC"] = "three",
        })
        {
            context.Headers.Set(name, value);
        }
    }

    [SkippableFact]
    public async Task A_subscriber_to_a_base_interface_gets_its_copy_from_a_process_that_never_published_the_type()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(IOrderEvent));
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await using var app = await App.StartAsync(stack);

        var copy = await broker.TakeAsync(Queue);
        Encoding.UTF8.GetString(copy.Body.Span).Should().Contain($"urn:message:{typeof(OrderPlaced).Namespace}:{nameof(OrderPlaced)}");
        await stack.DrainedAsync();
    }

    [SkippableFact]
    public async Task A_message_that_requires_a_route_and_has_none_becomes_a_dead_letter_with_its_body()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.MaxAttempts = 2));
        var order = Guid.NewGuid();

        await app.PublishAsync(new OrderPlaced(order), new PublishOptions { RequireRoute = true });

        await stack.DrainedAsync();
        var letter = await stack.ReadAsync(db => db.DeadLetters.SingleAsync());
        letter.Reason.Should().Be(nameof(DeadLetterReason.Refused));
        letter.Attempts.Should().Be(2);
        letter.Error.Should().NotBeNullOrEmpty();
        Encoding.UTF8.GetString(letter.Body).Should().Contain(order.ToString());
    }

    [SkippableFact]
    public async Task A_message_that_requires_no_route_and_has_none_is_dropped_by_the_broker()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await App.StartAsync(stack);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await stack.DrainedAsync();
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }

    public sealed class WireHandler(Probe probe) : IMessageHandler<OrderPlaced>
    {
        public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        {
            probe.Saw("wire", message);
            return Task.CompletedTask;
        }
    }
}
