using FluentAssertions;
using MassTransit;
using MassTransit.Context;
using OutboxBus.MassTransit.Consuming;
using OutboxBus.Storage;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Consuming;

public sealed class GenerationTests
{
    private const string Consumer = "stock/Shop.Reserve Stock/Shop.OrderPlaced";
    private static readonly Uri Queue = new("rabbitmq://localhost/shop/stock?durable=true");
    private static readonly Guid Id = Guid.NewGuid();

    [Fact]
    public void A_message_sent_back_to_its_queue_is_the_next_generation_to_its_consumer_and_to_nobody_else()
    {
        var sent = Send(Id, "rabbitmq://localhost/shop/stock");

        Generation.Stamp(sent, new InboxKey(Id, Consumer, 4), Queue);

        Generation.Of(sent.Headers, Consumer).Should().Be(5);
        Generation.Of(sent.Headers, "stock/Shop.Other/Shop.OrderPlaced").Should().Be(0);
    }

    [Fact]
    public void A_redelivery_with_an_id_of_its_own_is_known_by_the_original_one()
    {
        var sent = Send(Guid.NewGuid(), "rabbitmq://localhost/shop/stock");
        sent.Headers.Set(MessageHeaders.OriginalMessageId, Id.ToString());

        Generation.Stamp(sent, new InboxKey(Id, Consumer), Queue);

        Generation.Of(sent.Headers, Consumer).Should().Be(1);
    }

    [Theory]
    [InlineData("rabbitmq://localhost/shop/billing")]
    [InlineData("rabbitmq://localhost/other/stock")]
    [InlineData("rabbitmq://elsewhere/shop/stock")]
    public void A_message_sent_to_another_queue_is_not_marked(string destination)
    {
        var sent = Send(Id, destination);

        Generation.Stamp(sent, new InboxKey(Id, Consumer), Queue);

        sent.Headers.GetAll().Should().BeEmpty();
    }

    [Fact]
    public void Another_message_sent_to_the_same_queue_is_not_marked()
    {
        var sent = Send(Guid.NewGuid(), "rabbitmq://localhost/shop/stock");

        Generation.Stamp(sent, new InboxKey(Id, Consumer), Queue);

        sent.Headers.GetAll().Should().BeEmpty();
    }

    [Theory]
    [InlineData("")]
    [InlineData("1")]
    [InlineData(" " + Consumer)]
    [InlineData("-1 " + Consumer)]
    [InlineData("99999999999 " + Consumer)]
    [InlineData("one " + Consumer)]
    public void A_header_that_others_have_made_up_counts_for_nothing(string value)
    {
        var sent = Send(Id, "rabbitmq://localhost/shop/stock");
        Generation.Stamp(sent, new InboxKey(Id, Consumer), Queue);
        var name = sent.Headers.GetAll().Single().Key;

        sent.Headers.Set(name, value);

        Generation.Of(sent.Headers, Consumer).Should().Be(0);
    }

    private static MessageSendContext<Message> Send(Guid id, string destination) => new(new Message()) { MessageId = id, DestinationAddress = new Uri(destination) };

    private sealed class Message;
}
