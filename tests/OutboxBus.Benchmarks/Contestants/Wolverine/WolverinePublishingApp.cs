using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Wolverine.EntityFrameworkCore;
using Wolverine.RabbitMQ;

namespace OutboxBus.Benchmarks.Contestants.Wolverine;

public sealed class WolverinePublishingApp : IPublishingApp
{
    private readonly IHost _host;

    public WolverinePublishingApp(BenchmarkStage stage)
        => _host = WolverineHost.Build(stage, options => options.PublishMessage<OrderPlaced>().ToRabbitExchange(Exchange, WolverineHost.Fanout));

    public string Exchange => "wolverine-order-placed";

    public async Task StartAsync()
    {
        await WolverineHost.CreateSchemaAsync(_host);
        await _host.StartAsync();
    }

    public async Task PlaceOrderAsync(string reference, int messages)
    {
        await using var scope = _host.Services.CreateAsyncScope();
        var outbox = scope.ServiceProvider.GetRequiredService<IDbContextOutbox<WolverineShopDb>>();
        var order = Samples.Order(reference);
        outbox.DbContext.Orders.Add(order);
        for (var i = 0; i < messages; i++)
            await outbox.PublishAsync(Samples.Placed(order.Id, reference));
        await outbox.SaveChangesAndFlushMessagesAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        _host.Dispose();
    }
}
