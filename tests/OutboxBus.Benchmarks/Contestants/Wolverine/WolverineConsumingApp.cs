using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Wolverine;
using Wolverine.RabbitMQ;

namespace OutboxBus.Benchmarks.Contestants.Wolverine;

public sealed class WolverineConsumingApp(BenchmarkStage stage) : IConsumingApp
{
    // As many confirms as RabbitMQ.Client leaves outstanding on one channel.
    private const int FillConcurrency = 128;

    private IHost? _host;

    public string OutputExchange => "wolverine-order-shipped";

    public async Task FillAsync(int messages)
    {
        using var host = WolverineHost.BuildWithoutStore(stage, options => options.PublishMessage<OrderPlaced>().ToRabbitQueue(BenchmarkStage.InputQueue));
        await host.StartAsync();
        await Parallel.ForAsync(0, messages, new ParallelOptions { MaxDegreeOfParallelism = FillConcurrency }, async (i, _) =>
        {
            await using var scope = host.Services.CreateAsyncScope();
            var bus = scope.ServiceProvider.GetRequiredService<IMessageBus>();
            await bus.PublishAsync(Samples.Placed(Guid.CreateVersion7(), References.Of(i)));
        });
        await host.StopAsync();
    }

    public async Task StartAsync()
    {
        _host = BuildHost();
        await WolverineHost.CreateSchemaAsync(_host);
        await _host.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is null)
            return;
        await _host.StopAsync();
        _host.Dispose();
    }

    internal IHost BuildHost() => WolverineHost.Build(stage, options =>
    {
        options.Discovery.IncludeType(typeof(OrderPlacedHandler));
        options.PublishMessage<OrderShipped>().ToRabbitExchange(OutputExchange, WolverineHost.Fanout);
        options.ListenToRabbitQueue(BenchmarkStage.InputQueue)
            .PreFetchCount((ushort)stage.Prefetch)
            .MaximumParallelMessages(stage.Concurrency);
    });
}
