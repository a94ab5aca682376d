using FluentAssertions;
using MassTransit;
using OutboxBus.MassTransit.Delivery;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Delivery;

public sealed class BusEnvelopeSenderTests
{
    public static TheoryData<string, Action<Envelope>> Damages => new()
    {
        { "headers", envelope => envelope.Headers = "{" },
        { "header type", envelope => envelope.Headers = """{"a":{"type":"no","value":"x"}}""" },
        { "header value", envelope => envelope.Headers = """{"a":{"type":"bytes","value":null}}""" },
        { "properties", envelope => envelope.Properties = "[]" },
        { "id", envelope => envelope.Properties = """{"requestId":"x"}""" },
        { "address", envelope => envelope.Properties = """{"sourceAddress":null}""" },
        { "content type", envelope => envelope.ContentType = "no content type" },
        { "destination", envelope => envelope.Destination = "no address" },
        { "empty content type", envelope => envelope.ContentType = "" },
    };

    [Theory]
    [MemberData(nameof(Damages), DisableDiscoveryEnumeration = true)]
    public async Task Row_that_cannot_be_a_message_is_corrupt_and_never_reaches_the_bus(string what, Action<Envelope> damage)
    {
        var envelope = new Envelope { MessageId = Guid.NewGuid(), MessageType = "urn:message:A:B", ContentType = "application/json", Destination = "queue:stock" };
        damage(envelope);
        IBusControl noBus = null!;

        var outcome = await new BusEnvelopeSender(noBus, new MessageTypes([]), TimeProvider.System).SendAsync(envelope, CancellationToken.None);

        outcome.Kind.Should().Be(SendOutcomeKind.Corrupt, what);
    }

    [Fact]
    public async Task Publish_of_a_type_nobody_registered_waits()
    {
        var envelope = new Envelope { MessageId = Guid.NewGuid(), MessageType = "urn:message:Nobody:Knows", ContentType = "application/json" };
        IBusControl noBus = null!;

        var outcome = await new BusEnvelopeSender(noBus, new MessageTypes([]), TimeProvider.System).SendAsync(envelope, CancellationToken.None);

        outcome.Kind.Should().Be(SendOutcomeKind.UnknownType);
        outcome.Error!.Message.Should().Contain("urn:message:Nobody:Knows");
    }
}
