using MassTransit;

namespace OutboxBus.Benchmarks.Contestants;

// How MassTransit names what is on the broker.
internal static class MassTransitNames
{
    public static string ExchangeOf<T>() => $"{typeof(T).Namespace}:{typeof(T).Name}";
}

// Orders in MassTransit's format, for the contestants that consume with it.
internal static class MassTransitInput
{
    private const int InFlight = 500;

    public static async Task FillAsync(Uri virtualHost, int messages)
    {
        var bus = Bus.Factory.CreateUsingRabbitMq(transport => transport.Host(virtualHost));
        await bus.StartAsync();
        try
        {
            var endpoint = await bus.GetSendEndpoint(new Uri($"queue:{BenchmarkStage.InputQueue}"));
            for (var sent = 0; sent < messages; sent += InFlight)
            {
                await Task.WhenAll(Enumerable.Range(sent, Math.Min(InFlight, messages - sent))
                    .Select(number => endpoint.Send(Samples.Placed(Guid.CreateVersion7(), References.Of(number)))));
            }
        }
        finally
        {
            await bus.StopAsync();
        }
    }
}
