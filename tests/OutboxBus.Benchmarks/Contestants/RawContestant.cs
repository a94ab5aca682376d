using System.Text.Json;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;

namespace OutboxBus.Benchmarks.Contestants;

// What one could write by hand and no faster with the same tools, if nothing ever failed: no retry, no recovery of what a crash
// leaves, no options, no tracing. The rows are those of OutboxBus.
public sealed class RawContestant : Contestant
{
    public const string OrdersExchange = "raw-orders";
    private const string ShipmentsExchange = "raw-shipments";

    public override string Name => "raw";

    public override IPublishingApp CreatePublisher(BenchmarkStage stage) => new Publisher(stage);

    public override IConsumingApp CreateConsumer(BenchmarkStage stage) => new Consumer(stage);

    public override IDrainingApp CreateDrain(BenchmarkStage stage) => new RawDrain(stage, OrdersExchange);

    private static Envelope EnvelopeOf<T>(T message) => new()
    {
        MessageId = Guid.CreateVersion7(),
        MessageType = typeof(T).Name,
        ContentType = "application/json",
        Body = JsonSerializer.SerializeToUtf8Bytes(message),
    };

    // EF Core, pooled contexts; after the commit from memory to the broker.
    private sealed class Publisher(BenchmarkStage stage) : IPublishingApp
    {
        private readonly BenchmarkHost _host = BenchmarkHost.Build(services => BenchmarkHost.AddShop(services, stage));
        private readonly RawHandOff _handOff = new(stage, OrdersExchange);

        public string Exchange => OrdersExchange;

        public async Task StartAsync()
        {
            await _host.StartAsync();
            await _handOff.StartAsync();
        }

        public async Task PlaceOrderAsync(string reference, int messages)
        {
            await using var scope = _host.Services.CreateAsyncScope();
            var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
            var order = Samples.Order(reference);
            db.Orders.Add(order);
            var envelopes = new Envelope[messages];
            for (var message = 0; message < messages; message++)
                db.Add(envelopes[message] = EnvelopeOf(Samples.Placed(order.Id, reference)));
            await db.SaveChangesAsync();
            foreach (var envelope in envelopes)
                _handOff.Add(envelope);
        }

        public async ValueTask DisposeAsync()
        {
            await _handOff.DisposeAsync();
            await _host.DisposeAsync();
        }
    }

    // MassTransit's transport, EF Core for inbox, shipment and outbox in one SaveChanges; after the commit from memory to the broker.
    private sealed class Consumer : IConsumingApp
    {
        private readonly BenchmarkStage _stage;
        private readonly BenchmarkHost _host;
        private readonly RawHandOff _handOff;

        public Consumer(BenchmarkStage stage)
        {
            _stage = stage;
            _handOff = new RawHandOff(stage, ShipmentsExchange);
            _host = BenchmarkHost.Build(services =>
            {
                BenchmarkHost.AddShop(services, stage);
                services.AddSingleton(_handOff);
                MassTransitEndpoint.Add<ShipOrder>(services, stage);
            });
        }

        public string OutputExchange => ShipmentsExchange;

        public Task FillAsync(int messages) => MassTransitInput.FillAsync(_stage.VirtualHost, messages);

        public async Task StartAsync()
        {
            await _handOff.StartAsync();
            await _host.StartAsync();
        }

        public async ValueTask DisposeAsync()
        {
            await _host.DisposeAsync();
            await _handOff.DisposeAsync();
        }
    }

    private sealed class ShipOrder(ShopDb db, RawHandOff handOff) : IConsumer<OrderPlaced>
    {
        public async Task Consume(ConsumeContext<OrderPlaced> context)
        {
            var envelope = EnvelopeOf(Samples.Shipped(context.Message));
            db.Add(new InboxMessage { MessageId = context.MessageId!.Value, Consumer = "ship-order" });
            db.Add(Samples.Shipment(context.Message));
            db.Add(envelope);
            try
            {
                await db.SaveChangesAsync(context.CancellationToken);
            }
            catch (DbUpdateException exception) when (exception.InnerException is PostgresException { SqlState: PostgresErrorCodes.UniqueViolation })
            {
                // Consumed before.
                return;
            }

            handOff.Add(envelope);
        }
    }
}
