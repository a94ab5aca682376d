using System.Text;
using System.Text.Json.Nodes;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using RabbitMQ.Client;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class OnTheWire
{
    private const string ActivityHeader = "MT-Activity-Id";
    // RabbitMQ.Client's own count of publishes on a channel.
    private const string SequenceHeader = "x-dotnet-pub-seq-no";
    private const string Queue = "wire";
    private static readonly TimeSpan TimeToLive = TimeSpan.FromMinutes(10);

    [SkippableFact]
    public async Task A_delivered_message_equals_one_published_directly()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        var message = new OrderPlaced(Guid.NewGuid());
        var (messageId, correlationId, conversationId, initiatorId) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());

        byte[] stored;
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
        {
            await publisher.InScopeAsync(async (services, db) =>
            {
                await services.GetRequiredService<IPublishEndpoint>().Publish(message, Set);
                await db.SaveChangesAsync();
            });
            stored = await stack.ReadAsync(db => db.Outbox.Select(row => row.Body).SingleAsync());
        }

        await using var app = await App.StartAsync(stack);
        var delivered = await broker.TakeAsync(Queue);
        await app.Services.GetRequiredService<IBus>().Publish(message, Set);
        var direct = await broker.TakeAsync(Queue);

        delivered.Body.ToArray().Should().Equal(stored);
        Comparable(delivered.Body).Should().Be(Comparable(direct.Body));
        delivered.Exchange.Should().Be(direct.Exchange).And.Be(RawBroker.ExchangeOf(typeof(OrderPlaced)));
        delivered.RoutingKey.Should().Be(direct.RoutingKey).And.Be("north");
        Headers(delivered).Should().Equal(Headers(direct)).And.ContainKeys("text", "int", "long", "bool", "guid", "time");

        var (properties, expected) = (delivered.BasicProperties, direct.BasicProperties);
        properties.DeliveryMode.Should().Be(expected.DeliveryMode).And.Be(DeliveryModes.Persistent);
        properties.ContentType.Should().Be(expected.ContentType).And.NotBeNullOrEmpty();
        properties.Priority.Should().Be(expected.Priority).And.Be(4);
        properties.IsPriorityPresent().Should().Be(expected.IsPriorityPresent());
        properties.MessageId.Should().Be(expected.MessageId).And.Be(messageId.ToString());
        properties.CorrelationId.Should().Be(expected.CorrelationId).And.Be(correlationId.ToString());
        properties.ReplyTo.Should().Be(expected.ReplyTo);
        properties.Type.Should().Be(expected.Type);
        properties.AppId.Should().Be(expected.AppId);
        properties.ContentEncoding.Should().Be(expected.ContentEncoding);
        properties.UserId.Should().Be(expected.UserId);
        properties.IsTimestampPresent().Should().Be(expected.IsTimestampPresent());
        // What was left of it when the broker got the message.
        TimeSpan.FromMilliseconds(double.Parse(properties.Expiration!, System.Globalization.CultureInfo.InvariantCulture))
            .Should().BePositive().And.BeLessThanOrEqualTo(TimeToLive);
        expected.Expiration.Should().NotBeNullOrEmpty();

        void Set(PublishContext<OrderPlaced> context)
        {
            context.MessageId = messageId;
            context.CorrelationId = correlationId;
            context.ConversationId = conversationId;
            context.InitiatorId = initiatorId;
            context.SourceAddress = new Uri("queue:source");
            context.ResponseAddress = new Uri("queue:response");
            context.FaultAddress = new Uri("queue:fault");
            context.TimeToLive = TimeToLive;
            context.SetPriority(4);
            context.SetRoutingKey("north");
            context.Headers.Set("text", "grün \"and\" <more>");
            context.Headers.Set("int", 7);
            context.Headers.Set("long", 7L);
            context.Headers.Set("bool", true);
            context.Headers.Set("guid", messageId);
            context.Headers.Set("time", new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc));
        }
    }

    [SkippableFact]
    public async Task A_message_without_any_option_equals_one_published_directly()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        await using var app = await App.StartAsync(stack);
        var message = new OrderPlaced(Guid.NewGuid());

        await app.PublishAsync(message);
        var delivered = await broker.TakeAsync(Queue);
        await app.Services.GetRequiredService<IBus>().Publish(message);
        var direct = await broker.TakeAsync(Queue);

        var (properties, expected) = (delivered.BasicProperties, direct.BasicProperties);
        Comparable(delivered.Body, "messageId", "conversationId").Should().Be(Comparable(direct.Body, "messageId", "conversationId"));
        Headers(delivered).Should().Equal(Headers(direct));
        properties.DeliveryMode.Should().Be(expected.DeliveryMode).And.Be(DeliveryModes.Persistent);
        properties.IsPriorityPresent().Should().Be(expected.IsPriorityPresent());
        properties.IsExpirationPresent().Should().Be(expected.IsExpirationPresent());
        properties.IsCorrelationIdPresent().Should().Be(expected.IsCorrelationIdPresent());
        properties.ContentType.Should().Be(expected.ContentType);
        delivered.RoutingKey.Should().Be(direct.RoutingKey);
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

    /// <summary>The headers, but for those that differ from send to send.</summary>
    private static Dictionary<string, string> Headers(BasicGetResult message)
        => message.BasicProperties.Headers!.Where(header => header.Key is not (ActivityHeader or SequenceHeader)).ToDictionary(
            header => header.Key, header => header.Value is byte[] text ? Encoding.UTF8.GetString(text) : $"{header.Value?.GetType().Name}: {header.Value}");

    /// <summary>The body without what differs from send to send.</summary>
    private static string Comparable(ReadOnlyMemory<byte> body, params string[] ids)
    {
        var envelope = JsonNode.Parse(body.Span)!.AsObject();
        foreach (var name in (string[])["sentTime", "expirationTime", .. ids])
            envelope.Remove(name).Should().BeTrue(name == "expirationTime" ? "TTL" : name);
        (envelope["headers"] as JsonObject)?.Remove(ActivityHeader);
        return envelope.ToJsonString();
    }
}
