using System.Collections.Concurrent;
using System.Net.Mime;
using System.Runtime.CompilerServices;
using System.Text;
using FluentAssertions;
using MassTransit;
using MassTransit.Serialization;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Whatever a publisher may say arrives, or is refused before anything is stored.
public abstract class HostileValuesOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [MemberData(nameof(HostileHeaders.Names), MemberType = typeof(HostileHeaders))]
    public async Task A_header_arrives_as_it_was_set(string header)
    {
        var (name, value, arrives) = HostileHeaders.Of[header];
        await using var shop = Create(bus => bus.MassTransit(x => x.AddConsumer<Received.HeaderConsumer>()));
        await shop.StartAsync();

        await SaveAsync(shop, outbox => outbox.Publish(new OrderPlaced("A-1"), new PublishOptions { Headers = new Dictionary<string, object?> { [name] = value } }));

        (await ReceivedAsync(shop, 1)).Single().Headers.Should().Contain(name, arrives);
        await EndsWithoutDeadLettersAsync(shop);
    }

    [SkippableTheory]
    [InlineData("grün-死信")]
    [InlineData("queue:grün-死信")]
    [InlineData("queue:gr%C3%BCn")]
    [InlineData("queue:a%20b%25c")]
    [InlineData("queue:a%23b%3Fc")]
    [InlineData("queue:it's%22(1)")]
    [InlineData("exchange:orders?bind=true&queue=a%26b%3Dc")]
    public async Task A_destination_leads_where_it_leads_a_message_that_is_sent_directly(string destination)
    {
        await using var shop = Create(_ => { });
        await shop.StartAsync();
        var bus = shop.Services.GetRequiredService<IBus>();
        var destinations = new Destinations();
        bus.ConnectSendObserver(destinations);

        await SaveAsync(shop, outbox => outbox.Send(destination, new OrderPlaced("A-1")));
        await EndsWithoutDeadLettersAsync(shop, stops: false);
        var endpoint = await bus.GetSendEndpoint(new Uri(destination.Contains(':', StringComparison.Ordinal) ? destination : $"queue:{destination}"));
        await endpoint.Send(new OrderPlaced("A-1"));

        destinations.Seen.Should().HaveCount(2);
        destinations.Seen.First().Should().Be(destinations.Seen.Last());
    }

    [SkippableFact]
    public async Task Nested_and_generic_types_arrive_from_a_process_that_never_published_them()
    {
        await using (var publisher = Shop.Create(Database))
        {
            await SaveAsync(publisher, async outbox =>
            {
                await outbox.Publish(new Outer.Nested("nested"));
                await outbox.Publish(new Wrapped<Outer.Nested>(new Outer.Nested("wrapped")));
                await outbox.Publish(new Wrapped<Wrapped<OrderPlaced>>(new Wrapped<OrderPlaced>(new OrderPlaced("wrapped twice"))));
            });
        }

        await using var shop = Create(bus => bus
            .AddHandler<Received.NestedHandler>()
            .MassTransit(x => x.AddMessage<Wrapped<Outer.Nested>>().AddMessage<Wrapped<Wrapped<OrderPlaced>>>()));
        await shop.StartAsync();

        (await ReceivedAsync(shop, 3)).Select(message => message.Text).Should().BeEquivalentTo("nested", "wrapped", "wrapped twice");
        await EndsWithoutDeadLettersAsync(shop);
    }

    [SkippableFact]
    public async Task A_type_or_destination_or_content_type_longer_than_its_column_is_refused_and_nothing_is_stored()
    {
        await using var shop = Shop.Create(Database);
        var type = typeof(OrderPlaced);
        // Its name grows with each level.
        for (var level = 0; level < 30; level++)
            type = typeof(Wrapped<>).MakeGenericType(type);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Awaiting(limited => limited.Publish(RuntimeHelpers.GetUninitializedObject(type), type)).Should().ThrowAsync<MessageTooLargeException>().WithMessage("*message type*1024*");
            await outbox.Awaiting(limited => limited.Send($"queue:{new string('q', 1100)}", new OrderPlaced("A-1"))).Should().ThrowAsync<MessageTooLargeException>().WithMessage("*destination*1024*");
            await db.SaveChangesAsync();
        });

        await using (var scope = shop.Scope())
        {
            var publisher = scope.ServiceProvider.GetRequiredService<IPublishEndpoint>();
            await publisher.Awaiting(limited => limited.Publish<OrderPlaced>(new OrderPlaced("A-1"), context => context.ContentType = new ContentType($"text/{new string('t', 300)}")))
                .Should().ThrowAsync<MessageTooLargeException>().WithMessage("*content type*256*");
        }

        await using var context = Database.CreateShop();
        (await context.Orders.CountAsync(), await context.Set<Envelope>().CountAsync()).Should().Be((1, 0));
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task A_body_of_exactly_the_limit_arrives_and_one_byte_more_is_refused()
    {
        const int Limit = 20_000;
        await using var shop = Create(bus => bus.AddHandler<Received.Handler>().Publishing(publishing => publishing.MaxBodyBytes = Limit));
        await shop.StartAsync();

        await PublishBytesAsync(shop, Body(Limit));
        await FluentActions.Awaiting(() => PublishBytesAsync(shop, Body(Limit + 1))).Should().ThrowAsync<MessageTooLargeException>();

        (await ReceivedAsync(shop, 1)).Single().Text.Should().Be("A-1");
        await EndsWithoutDeadLettersAsync(shop);

        static byte[] Body(int length) => Encoding.UTF8.GetBytes(
            $$$"""{"messageId":"{{{Guid.NewGuid()}}}","messageType":["{{{MessageUrn.ForTypeString<OrderPlaced>()}}}"],"message":{"number":"A-1"}}""".PadRight(length));
    }

    [SkippableFact]
    public async Task An_empty_body_is_stored_and_sent()
    {
        await using (var publisher = Shop.Create(Database))
        {
            await PublishBytesAsync(publisher, []);
        }

        await using (var context = Database.CreateShop())
            (await context.Set<Envelope>().SingleAsync()).Body.Should().BeEmpty();
        await using var shop = Create(_ => { });
        await shop.StartAsync();
        await EndsWithoutDeadLettersAsync(shop);
        shop.Sent.Should().ContainSingle();
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_message_id_given_twice_is_two_messages_of_which_one_has_effects(bool inOneTransaction)
    {
        await using var shop = Create(bus => bus.AddHandler<Received.Handler>());
        var options = new PublishOptions { MessageId = Guid.NewGuid() };

        await SaveAsync(shop, async outbox =>
        {
            await outbox.Publish(new OrderPlaced("A-1"), options);
            if (inOneTransaction)
                await outbox.Publish(new OrderPlaced("A-1"), options);
        });
        if (!inOneTransaction)
            await SaveAsync(shop, outbox => outbox.Publish(new OrderPlaced("A-1"), options));
        await using (var context = Database.CreateShop())
            (await context.Set<Envelope>().CountAsync()).Should().Be(2);
        using var duplicates = new CounterOf("outboxbus.duplicates");
        await shop.StartAsync();

        await EndsWithoutDeadLettersAsync(shop, () => duplicates.Total > 0);
        shop.Sent.Should().HaveCount(2);
        shop.Services.GetRequiredService<Received>().Messages.Should().ContainSingle();
    }

    private Shop Create(Action<OutboxBusConfigurator> bus) => Shop.Create(Database, bus, services => services.AddSingleton<Received>(), delivers: true);

    private static Task SaveAsync(Shop shop, Func<IOutboxContext, Task> publish) => shop.InScopeAsync(async (db, outbox) =>
    {
        await publish(outbox);
        await db.SaveChangesAsync();
    });

    private static async Task<IReadOnlyCollection<Received.Message>> ReceivedAsync(Shop shop, int messages)
    {
        var received = shop.Services.GetRequiredService<Received>().Messages;
        await Eventually.BecomesAsync(() => received.Count >= messages, "the messages have arrived");
        return received;
    }

    private async Task EndsWithoutDeadLettersAsync(Shop shop, Func<bool>? also = null, bool stops = true)
    {
        await using var context = Database.CreateShop();
        await Eventually.BecomesAsync(async () => !await context.Set<Envelope>().AnyAsync() && (also?.Invoke() ?? true), "the outbox is empty");
        if (stops)
            await shop.StopAsync();
        (await context.Set<DeadLetter>().CountAsync()).Should().Be(0);
    }

    private static async Task PublishBytesAsync(Shop shop, byte[] body)
    {
        await using var scope = shop.Scope();
        var serializer = new CopyBodySerializer(new ContentType("application/vnd.masstransit+json"), new BytesMessageBody(body));
        await scope.ServiceProvider.GetRequiredService<IPublishEndpoint>().Publish<OrderPlaced>(new OrderPlaced(""), context => context.Serializer = serializer);
        await scope.ServiceProvider.GetRequiredService<ShopDb>().SaveChangesAsync();
    }
}

public sealed class HostileValuesOnSqlite(SqliteDatabase database) : HostileValuesOn<SqliteDatabase>(database);

public sealed class HostileValuesOnPostgreSql(PostgreSqlDatabase database) : HostileValuesOn<PostgreSqlDatabase>(database);

public static class HostileHeaders
{
    // Not in the tests' names, which not every report can show.
    public static readonly IReadOnlyDictionary<string, (string Name, string Value, string Arrives)> Of = new Dictionary<string, (string Name, string Value, string Arrives)>
    {
        ["other alphabets"] = Same("grün 死信 😀", "it's \"quoted\" \u202e 𝕊"),
        ["the null character"] = Same("a\0b", "\0"),
        ["half a character"] = ("half", "\ud83d!", "\ufffd!"),
        ["a long name"] = Same(new string('n', 1000), "x"),
        ["a long value"] = Same("long", new string('v', 50_000)),
        ["what looks like a stored value"] = Same("type", """{"type":"long","value":"7"}"""),
        ["statements"] = Same("'; drop table outbox_message; --", "{0} @id $1 %s"),
        ["line ends"] = Same("a\r\nb", "\r\n\u2028"),
    };

    public static TheoryData<string> Names => [.. Of.Keys];

    private static (string Name, string Value, string Arrives) Same(string name, string value) => (name, value, value);
}

// Where messages went.
public sealed class Destinations : ISendObserver
{
    public ConcurrentQueue<string> Seen { get; } = new();

    public Task PreSend<T>(SendContext<T> context)
        where T : class => Task.CompletedTask;

    public Task PostSend<T>(SendContext<T> context)
        where T : class
    {
        Seen.Enqueue(context.DestinationAddress!.AbsoluteUri);
        return Task.CompletedTask;
    }

    public Task SendFault<T>(SendContext<T> context, Exception exception)
        where T : class => Task.CompletedTask;
}

public static class Outer
{
    public sealed record Nested(string Text);
}

public sealed record Wrapped<T>(T Inner);

// What the handlers of one application have received.
public sealed class Received
{
    public sealed record Message(string Text, IReadOnlyDictionary<string, object?> Headers);

    public ConcurrentQueue<Message> Messages { get; } = new();

    public sealed class Handler(Received received) : IMessageHandler<OrderPlaced>
    {
        public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        {
            received.Messages.Enqueue(new Message(message.Number, context.Headers));
            return Task.CompletedTask;
        }
    }

    // The headers that the transport has carried; a handler sees those of MassTransit's envelope, which is part of the body.
    public sealed class HeaderConsumer(Received received) : IConsumer<OrderPlaced>
    {
        public Task Consume(ConsumeContext<OrderPlaced> context)
        {
            received.Messages.Enqueue(new Message(
                context.Message.Number, context.ReceiveContext.TransportHeaders.GetAll().ToDictionary(header => header.Key, header => (object?)header.Value)));
            return Task.CompletedTask;
        }
    }

    public sealed class NestedHandler(Received received) : IMessageHandler<Outer.Nested>, IMessageHandler<Wrapped<Outer.Nested>>, IMessageHandler<Wrapped<Wrapped<OrderPlaced>>>
    {
        public Task Handle(Outer.Nested message, IMessageContext context, CancellationToken cancellationToken) => Note(message.Text, context);

        public Task Handle(Wrapped<Outer.Nested> message, IMessageContext context, CancellationToken cancellationToken) => Note(message.Inner.Text, context);

        public Task Handle(Wrapped<Wrapped<OrderPlaced>> message, IMessageContext context, CancellationToken cancellationToken) => Note(message.Inner.Inner.Number, context);

        private Task Note(string text, IMessageContext context)
        {
            received.Messages.Enqueue(new Message(text, context.Headers));
            return Task.CompletedTask;
        }
    }
}
