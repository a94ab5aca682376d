using MassTransit;
using Microsoft.Extensions.DependencyInjection;

namespace OutboxBus.Benchmarks.Contestants;

// Plain MassTransit with one consumer on the input queue.
internal static class MassTransitEndpoint
{
    public static void Add<TConsumer>(IServiceCollection services, BenchmarkStage stage)
        where TConsumer : class, IConsumer => services.AddMassTransit(bus =>
    {
        bus.AddConsumer<TConsumer>();
        bus.UsingRabbitMq((context, transport) =>
        {
            transport.Host(stage.VirtualHost);
            transport.ReceiveEndpoint(BenchmarkStage.InputQueue, endpoint =>
            {
                endpoint.PrefetchCount = stage.Prefetch;
                endpoint.ConcurrentMessageLimit = stage.Concurrency;
                endpoint.ConfigureConsumer<TConsumer>(context);
            });
        });
    });
}
