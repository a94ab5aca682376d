using System.Security.Cryptography;
using FluentAssertions;
using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using RabbitMQ.Client;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

/// <summary>A message past MassTransit's send path is the message that would have gone over it.</summary>
[Collection(TracesOfMassTransit.Name)]
public sealed class SentDirectly
{
    public static TheoryData<WireFormat> Formats => [.. Enum.GetValues<WireFormat>()];

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public async Task A_message_is_the_same_on_the_wire_as_over_MassTransit(WireFormat format)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        stack.ConfigureRabbitMq = transport => transport.Use(format);
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync("published", typeof(OrderPlaced));
        await broker.BindAsync("of-the-base", typeof(IOrderEvent));
        await broker.BindAsync("at-exchange", "shop", ExchangeType.Fanout);
        await broker.BindAsync("by-key", "shop-by-key", ExchangeType.Direct, "north");
        await broker.BindAsync("by-topic", "shop-by-topic", ExchangeType.Topic, "north.#");
        await using var senders = await Senders.StartAsync(stack);
        var message = new OrderPlaced(Guid.NewGuid());

        foreach (var (way, set) in Ways)
        {
            await EqualAsync(await senders.CaptureAsync(message, set), $"published {way}", "published", "of-the-base");
            await EqualAsync(await senders.CaptureAsync<IOrderEvent>(message, set), $"published as its interface {way}", "of-the-base");
            await EqualAsync(await senders.CaptureAsync("queue:sent", message, set), $"sent to a queue {way}", "sent");
            await EqualAsync(await senders.CaptureAsync("exchange:shop", message, set), $"sent to an exchange {way}", "at-exchange");
        }

        await EqualAsync(await senders.CaptureAsync("exchange:shop-by-key?type=direct", message, context => context.SetRoutingKey("north")), "by key", "by-key");
        await EqualAsync(await senders.CaptureAsync("exchange:shop-by-topic?type=topic", message, context => context.SetRoutingKey("north.east")), "by topic", "by-topic");
        await EqualAsync(await senders.CaptureAsync(message, context => context.Mandatory = true), "routed, as it must be", "published", "of-the-base");
        await EqualAsync(await ScheduledAsync(), "scheduled", "published", "of-the-base");
        foreach (var size in (int[])[0, 1, 4096, 200_000, 1_000_000])
        {
            var envelope = await senders.CaptureAsync("queue:sent", message);
            envelope.Body = RandomNumberGenerator.GetBytes(size);
            await EqualAsync(envelope, $"{size} bytes", "sent");
        }

        senders.Detours.Should().BePositive("the first of each kind leaves the topology to MassTransit");

        async Task EqualAsync(Envelope envelope, string what, params string[] queues)
        {
            await senders.WarmUpAsync(envelope);
            await broker.PurgeAsync([.. queues, "published"]);
            var detours = senders.Detours;

            var over = await senders.MassTransit.SendAsync(envelope, CancellationToken.None);
            var expected = await TakeAsync();
            var direct = await senders.Direct.SendAsync(envelope, CancellationToken.None);
            var actual = await TakeAsync();

            over.Should().Be(SendOutcome.Confirmed, what);
            direct.Should().Be(SendOutcome.Confirmed, what);
            senders.Detours.Should().Be(detours, $"it went directly: {what}");
            actual.Should().BeEquivalentTo(expected, options => options.WithStrictOrdering(), what);

            async Task<List<IReadOnlyList<string>>> TakeAsync()
            {
                var images = new List<IReadOnlyList<string>>();
                foreach (var queue in queues)
                    images.Add(WireImage.Of(await broker.TakeAsync(queue)));
                return images;
            }
        }

        async Task<Envelope> ScheduledAsync() => (await senders.CaptureAsync(services => services.GetRequiredService<IOutboxContext>()
            .Publish(message, new PublishOptions { Delay = TimeSpan.FromMinutes(1), ScheduleToken = Guid.NewGuid(), CorrelationId = Guid.NewGuid() }))).Single();
    }

    // Everything but what the client may refuse, which MassTransit sends.
    private static IEnumerable<KeyValuePair<string, Action<SendContext>>> Ways => OnTheWire.Ways.Where(way => way.Key != "with everything set").Append(new("with everything that goes directly", context =>
    {
        OnTheWire.SetEverything(context);
        context.Headers.Set("decimal", null);
    }));
}
