using MassTransit;
using Microsoft.Extensions.DependencyInjection;

namespace OutboxBus.Benchmarks.Contestants;

// Plain MassTransit without an outbox or inbox: a crash between commit and publish loses messages, and what arrives twice has its
// effects twice. What MassTransit itself costs.
public sealed class MassTransitDirectContestant : Contestant
{
    public override string Name => "masstransit-direct";

    public override IPublishingApp CreatePublisher(BenchmarkStage stage) => new Publisher(stage);

    public override IConsumingApp CreateConsumer(BenchmarkStage stage) => new Consumer(stage);

    private sealed class Publisher(BenchmarkStage stage) : IPublishingApp
    {
        private readonly BenchmarkHost _host = BenchmarkHost.Build(services =>
        {
            BenchmarkHost.AddShop(services, stage);
            services.AddMassTransit(bus => bus.UsingRabbitMq((_, transport) => transport.Host(stage.VirtualHost)));
        });

        public string Exchange => MassTransitNames.ExchangeOf<OrderPlaced>();

        public Task StartAsync() => _host.StartAsync();

        public async Task PlaceOrderAsync(string reference, int messages)
        {
            await using var scope = _host.Services.CreateAsyncScope();
            var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
            var publisher = scope.ServiceProvider.GetRequiredService<IPublishEndpoint>();
            var order = Samples.Order(reference);
            db.Orders.Add(order);
            await db.SaveChangesAsync();
            await Task.WhenAll(Enumerable.Range(0, messages).Select(_ => publisher.Publish(Samples.Placed(order.Id, reference))));
        }

        public ValueTask DisposeAsync() => _host.DisposeAsync();
    }

    private sealed class Consumer(BenchmarkStage stage) : IConsumingApp
    {
        private readonly BenchmarkHost _host = BenchmarkHost.Build(services =>
        {
            BenchmarkHost.AddShop(services, stage);
            MassTransitEndpoint.Add<ShipOrder>(services, stage);
        });

        public string OutputExchange => MassTransitNames.ExchangeOf<OrderShipped>();

        public Task FillAsync(int messages) => MassTransitInput.FillAsync(stage.VirtualHost, messages);

        public Task StartAsync() => _host.StartAsync();

        public ValueTask DisposeAsync() => _host.DisposeAsync();
    }

    private sealed class ShipOrder(ShopDb db) : IConsumer<OrderPlaced>
    {
        public async Task Consume(ConsumeContext<OrderPlaced> context)
        {
            db.Shipments.Add(Samples.Shipment(context.Message));
            await db.SaveChangesAsync(context.CancellationToken);
            await context.Publish(Samples.Shipped(context.Message));
        }
    }
}
