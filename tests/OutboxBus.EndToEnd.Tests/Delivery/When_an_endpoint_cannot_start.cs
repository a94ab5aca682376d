using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_an_endpoint_cannot_start
{
    private const string Queue = "reserve";
    private const string Spy = "spy";
    private const int TransportFailed = 208;

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Messages_leave_all_the_same(bool otherEndpointsStart)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Spy, typeof(OrderPlaced));
        // The endpoint declares it durable and without a limit: 406 PRECONDITION_FAILED, for ever.
        await broker.DeclareWithLimitAsync(Queue);
        await using var app = await App.StartAsync(
            stack,
            bus =>
            {
                bus.AddHandler<ReserveHandler>(handler => handler.EndpointName = Queue);
                if (otherEndpointsStart)
                    bus.AddHandler<ChangedHandler>();
            },
            services => services.Configure<MassTransitHostOptions>(host => host.WaitUntilStarted = false));

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await stack.DrainedAsync();
        (await broker.CountAsync(Spy)).Should().Be(1);
        var outages = app.Logs.Count(TransportFailed);

        // The wait is for the first message only.
        for (var message = 0; message < 20; message++)
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await stack.DrainedAsync();
        app.Logs.Count(TransportFailed).Should().Be(outages);
        (await stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }
}
