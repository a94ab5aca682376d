using Examples.Walkthrough;

namespace Examples.Hosting;

/// <summary>Serves the API until the process is told to stop.</summary>
public static class Server
{
    public static async Task<int> RunAsync<TStage>(Example<TStage> example, Engines engines, string? url, bool keepSqlite)
        where TStage : Stage
    {
        await using (var db = example.OpenDatabase(engines))
            await ExampleSchema.CreateAsync(engines, db);
        try
        {
            await using var app = example.Build(engines, url ?? "http://127.0.0.1:0", ConfigureLogging, faults: null);
            await app.StartAsync();
            var address = app.Urls.Single();
            Console.WriteLine($"OutboxBus example: {engines.Description}, {engines.Place}. Ctrl+C stops.");
            Console.WriteLine($"Listening on {address}");
            foreach (var hint in example.Hints(address))
                Console.WriteLine(hint);
            await app.WaitForShutdownAsync();
        }
        finally
        {
            if (engines.Postgres is null && !keepSqlite)
                await ExampleSchema.DropAsync(engines);
        }

        return 0;
    }

    private static void ConfigureLogging(ILoggingBuilder logging) => logging.SetMinimumLevel(LogLevel.Warning).AddFilter("OutboxBus", LogLevel.Information);
}
