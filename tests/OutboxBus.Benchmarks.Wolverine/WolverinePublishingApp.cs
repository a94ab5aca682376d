using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using OutboxBus.Benchmarks.Contestants;
using Wolverine.EntityFrameworkCore;
using Wolverine.RabbitMQ;

namespace OutboxBus.Benchmarks.Wolverine;

public sealed class WolverinePublishingApp : IPublishingApp
{
    private readonly IHost _host;

    public WolverinePublishingApp(BenchmarkStage stage)
        => _host = Hosting.Build(stage, options => options.PublishMessage<OrderPlaced>().ToRabbitExchange(Exchange, Hosting.Fanout));

    public string Exchange => "wolverine-order-placed";

    public async Task StartAsync()
    {
        await Hosting.CreateSchemaAsync(_host);
        await _host.StartAsync();
    }

    public async Task PlaceOrderAsync(string reference, int messages)
    {
        await using var scope = _host.Services.CreateAsyncScope();
        var outbox = scope.ServiceProvider.GetRequiredService<IDbContextOutbox<ShopDb>>();
        var order = new Order { Id = Guid.CreateVersion7(), Reference = reference, Customer = SampleOrders.Customer, Amount = SampleOrders.Amount };
        outbox.DbContext.Orders.Add(order);
        for (var i = 0; i < messages; i++)
            await outbox.PublishAsync(SampleOrders.Placed(order.Id, reference));
        await outbox.SaveChangesAndFlushMessagesAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        _host.Dispose();
    }
}
