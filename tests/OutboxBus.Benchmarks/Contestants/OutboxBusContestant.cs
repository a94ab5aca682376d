using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.MassTransit;

namespace OutboxBus.Benchmarks.Contestants;

// As the README shows it, with defaults.
public sealed class OutboxBusContestant(string name = "outboxbus", Action<OutboxBusConfigurator>? configure = null) : Contestant
{
    public override string Name => name;

    public override IPublishingApp CreatePublisher(BenchmarkStage stage) => new Publisher(stage, configure);

    public override IConsumingApp CreateConsumer(BenchmarkStage stage) => new Consumer(stage, configure);

    public override IDrainingApp CreateDrain(BenchmarkStage stage) => new Drain(stage, configure);

    private static BenchmarkHost Build(BenchmarkStage stage, Action<OutboxBusConfigurator>? tune, Action<OutboxBusConfigurator>? configure = null)
        => BenchmarkHost.Build(services =>
        {
            BenchmarkHost.AddShop(services, stage);
            services.AddOutboxBus(bus =>
            {
                bus.UseEntityFrameworkCore<ShopDb>(store => store.UsePostgreSql());
                bus.UseRabbitMq(stage.VirtualHost.AbsoluteUri);
                tune?.Invoke(bus);
                configure?.Invoke(bus);
            });
        });

    private sealed class Publisher(BenchmarkStage stage, Action<OutboxBusConfigurator>? tune) : IPublishingApp
    {
        private readonly BenchmarkHost _host = Build(stage, tune);

        public string Exchange => MassTransitNames.ExchangeOf<OrderPlaced>();

        public Task StartAsync() => _host.StartAsync();

        public async Task PlaceOrderAsync(string reference, int messages)
        {
            await using var scope = _host.Services.CreateAsyncScope();
            var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
            var outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();
            var order = Samples.Order(reference);
            db.Orders.Add(order);
            for (var message = 0; message < messages; message++)
                await outbox.Publish(Samples.Placed(order.Id, reference));
            await db.SaveChangesAsync();
        }

        public ValueTask DisposeAsync() => _host.DisposeAsync();
    }

    private sealed class Consumer(BenchmarkStage stage, Action<OutboxBusConfigurator>? tune) : IConsumingApp
    {
        private readonly BenchmarkHost _host = Build(stage, tune, bus => bus.AddHandler<ShipOrder>(endpoint =>
        {
            endpoint.EndpointName = BenchmarkStage.InputQueue;
            endpoint.PrefetchCount = stage.Prefetch;
            endpoint.ConcurrencyLimit = stage.Concurrency;
        }));

        public string OutputExchange => MassTransitNames.ExchangeOf<OrderShipped>();

        public Task FillAsync(int messages) => MassTransitInput.FillAsync(stage.VirtualHost, messages);

        public Task StartAsync() => _host.StartAsync();

        public ValueTask DisposeAsync() => _host.DisposeAsync();
    }

    private sealed class ShipOrder(ShopDb db) : IMessageHandler<OrderPlaced>
    {
        public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        {
            db.Shipments.Add(Samples.Shipment(message));
            await context.Publish(Samples.Shipped(message), cancellationToken: cancellationToken);
        }
    }

    private sealed class Drain(BenchmarkStage stage, Action<OutboxBusConfigurator>? tune) : IDrainingApp
    {
        private readonly BenchmarkHost _host = Build(stage, tune);

        public Task StartAsync() => _host.StartAsync();

        public ValueTask DisposeAsync() => _host.DisposeAsync();
    }
}
