using FluentAssertions;
using OutboxBus.MassTransit.Publishing;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Publishing;

public sealed class DestinationTests
{
    [Theory]
    [InlineData("stock", "queue:stock")]
    [InlineData("Stock.v2_a-b", "queue:Stock.v2_a-b")]
    [InlineData("queue:stock", "queue:stock")]
    [InlineData("exchange:audit?type=topic", "exchange:audit?type=topic")]
    [InlineData("rabbitmq://host/vhost/queue", "rabbitmq://host/vhost/queue")]
    public void Names_and_addresses_are_understood(string destination, string address) => Destination.Parse(destination).Should().Be(new Uri(address));

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("  ")]
    [InlineData("two words")]
    [InlineData("a/b")]
    [InlineData("../up")]
    [InlineData("stock?durable=false")]
    [InlineData("stock\n")]
    [InlineData(":stock")]
    [InlineData("1:stock")]
    [InlineData("http://")]
    public void Anything_else_is_refused_with_what_to_write(string? destination)
        => FluentActions.Invoking(() => Destination.Parse(destination!)).Should().Throw<ArgumentException>()
            .WithMessage("*is no destination. Give a queue name*queue:stock*").And.ParamName.Should().Be("destination");
}
