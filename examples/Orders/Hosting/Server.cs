namespace Orders.Hosting;

/// <summary>Serves the API until the process is told to stop.</summary>
public static class Server
{
    public static async Task<int> RunAsync(Engines engines, string? url, bool keepSqlite)
    {
        await OrdersSchema.CreateAsync(engines);
        try
        {
            await using var app = OrdersApp.Build(engines, url ?? "http://127.0.0.1:0", ConfigureLogging);
            await app.StartAsync();
            var address = app.Urls.Single();
            Console.WriteLine($"OutboxBus example: {engines.Description}, {engines.Place}. Ctrl+C stops.");
            Console.WriteLine($"Listening on {address}");
            Console.WriteLine($$"""Try: curl -i {{address}}/orders -H 'content-type: application/json' -d '{"customer":"Ann","product":"teapot","quantity":1}'""");
            Console.WriteLine($"then {address}/orders/<id>, {address}/state and {address}/health; POST {address}/v2/orders is the minimal API.");
            await app.WaitForShutdownAsync();
        }
        finally
        {
            if (engines.Postgres is null && !keepSqlite)
                await OrdersSchema.DropAsync(engines);
        }

        return 0;
    }

    private static void ConfigureLogging(ILoggingBuilder logging) => logging.SetMinimumLevel(LogLevel.Warning).AddFilter("OutboxBus", LogLevel.Information);
}
