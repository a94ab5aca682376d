using CsCheck;
using FluentAssertions;
using MassTransit;
using MassTransit.Context;
using OutboxBus.MassTransit.Storage;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Storage;

public sealed class StoredPropertiesTests
{
    private static readonly Gen<Guid?> Id = Gen.Guid.Nullable();
    private static readonly Uri?[] Addresses =
    [
        null,
        new("rabbitmq://user:p%40ss@host:5672/my%2Fvhost/queue?durable=true"),
        new("loopback://localhost/a%20b%25c"),
        new("queue:stock"),
    ];

    private static readonly Gen<Uri?> Address = Gen.Int[0, Addresses.Length - 1].Select(index => Addresses[index]);

    private static readonly Gen<StoredProperties> Properties =
        from ids in Id.Array[5]
        from addresses in Address.Array[3]
        from types in Gen.String.Array[0, 3]
        from transport in Gen.Dictionary(Gen.String, Gen.OneOf(Gen.Int.Select(value => (object)value), Gen.Byte.Select(value => (object)value), Gen.String.Select(value => (object)value)))[0, 3]
        select new StoredProperties
        {
            ConversationId = ids[0],
            CorrelationId = ids[1],
            InitiatorId = ids[2],
            RequestId = ids[3],
            ScheduledMessageId = ids[4],
            SourceAddress = addresses[0],
            ResponseAddress = addresses[1],
            FaultAddress = addresses[2],
            MessageTypes = types,
            Transport = transport,
        };

    [Fact]
    public void Everything_comes_back() => Properties.Sample(properties =>
    {
        var back = StoredProperties.Parse(properties.ToJson());

        back.Should().BeEquivalentTo(properties);
        back.SourceAddress?.AbsoluteUri.Should().Be(properties.SourceAddress?.AbsoluteUri);
        back.ResponseAddress?.AbsoluteUri.Should().Be(properties.ResponseAddress?.AbsoluteUri);
        back.FaultAddress?.AbsoluteUri.Should().Be(properties.FaultAddress?.AbsoluteUri);
    });

    [Fact]
    public void Row_without_properties_has_none() => StoredProperties.Parse(null).Should().BeEquivalentTo(new StoredProperties());

    [Fact]
    public void Send_context_looks_as_it_did_when_captured()
    {
        var captured = new MessageSendContext<string>("message")
        {
            ConversationId = NewId.NextGuid(),
            CorrelationId = NewId.NextGuid(),
            InitiatorId = NewId.NextGuid(),
            RequestId = NewId.NextGuid(),
            ScheduledMessageId = NewId.NextGuid(),
            SourceAddress = new Uri("loopback://localhost/source"),
            ResponseAddress = new Uri("loopback://localhost/response"),
            FaultAddress = new Uri("loopback://localhost/fault"),
            SupportedMessageTypes = ["urn:message:A:B", "urn:message:A:C"],
            Delay = TimeSpan.FromMinutes(1),
        };

        var sent = new MessageSendContext<string>("message");
        StoredProperties.Parse(StoredProperties.Of(captured).ToJson()).ApplyTo(sent);

        sent.Should().BeEquivalentTo(
            captured,
            options => options
                .Including(context => context.ConversationId)
                .Including(context => context.CorrelationId)
                .Including(context => context.InitiatorId)
                .Including(context => context.RequestId)
                .Including(context => context.ScheduledMessageId)
                .Including(context => context.SourceAddress)
                .Including(context => context.ResponseAddress)
                .Including(context => context.FaultAddress)
                .Including(context => context.SupportedMessageTypes));
        // The row's due time stands for it; the broker must not wait once more.
        sent.Delay.Should().BeNull();
    }
}
