using FluentAssertions;
using OutboxBus.MassTransit.Consuming;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Consuming;

public sealed class HandlerTypesTests
{
    [Theory]
    [InlineData(typeof(ReserveStockHandler), "reserve-stock")]
    [InlineData(typeof(ReserveStockMessageHandler), "reserve-stock")]
    [InlineData(typeof(ReserveStockConsumer), "reserve-stock")]
    [InlineData(typeof(Handler), "handler")]
    [InlineData(typeof(HandlerOfOrders), "handler-of-orders")]
    public void Endpoint_is_named_after_the_class_without_its_ending(Type handler, string name) => HandlerTypes.EndpointName(handler).Should().Be(name);

    [Fact]
    public void Handler_is_known_to_the_inbox_by_its_own_class()
    {
        var consumer = HandlerTypes.ConsumerOf(typeof(ReserveStockHandler), typeof(string));

        HandlerTypes.StableName(consumer).Should().Be("OutboxBus.MassTransit.Tests.Consuming.HandlerTypesTests+ReserveStockHandler");
        HandlerTypes.StableName(typeof(ReserveStockConsumer)).Should().Be("OutboxBus.MassTransit.Tests.Consuming.HandlerTypesTests+ReserveStockConsumer");
    }

    [Fact]
    public void All_messages_of_a_class_are_found()
    {
        HandlerTypes.MessagesOf(typeof(HandlerOfOrders)).Should().BeEquivalentTo([typeof(string), typeof(Uri)]);
        HandlerTypes.MessagesOf(typeof(ReserveStockConsumer)).Should().BeEmpty();
    }

    private sealed class ReserveStockHandler : IMessageHandler<string>
    {
        public Task Handle(string message, IMessageContext context, CancellationToken cancellationToken) => Task.CompletedTask;
    }

    private sealed class ReserveStockMessageHandler;

    private sealed class ReserveStockConsumer;

    private sealed class Handler;

    private sealed class HandlerOfOrders : IMessageHandler<string>, IMessageHandler<Uri>
    {
        public Task Handle(string message, IMessageContext context, CancellationToken cancellationToken) => Task.CompletedTask;

        public Task Handle(Uri message, IMessageContext context, CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
