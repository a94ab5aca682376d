using System.Runtime.CompilerServices;
using JasperFx;
using OutboxBus.Benchmarks.Contestants;

namespace OutboxBus.Benchmarks.Wolverine;

// Writes Internal/Generated. To be called, and the project built again, after the handler, its messages or the policies have changed:
// Wolverine cannot see that its code is stale.
public static class HandlerCode
{
    // Needs neither PostgreSQL nor RabbitMQ.
    public static async Task WriteAsync()
    {
        var stage = new BenchmarkStage("Host=localhost", new Uri("amqp://localhost"), Prefetch: 1, Concurrency: 1);
        using var host = new WolverineConsumingApp(stage).BuildHost();
        await host.RunJasperFxCommands(["codegen", "write"]);
    }

    internal static string Folder([CallerFilePath] string thisFile = "")
        => Path.Combine(Path.GetDirectoryName(thisFile)!, "Internal", "Generated");
}
