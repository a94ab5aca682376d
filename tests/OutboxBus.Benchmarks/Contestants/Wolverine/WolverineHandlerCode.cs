using System.Runtime.CompilerServices;
using JasperFx;

namespace OutboxBus.Benchmarks.Contestants.Wolverine;

// Writes Internal/Generated. To be called, and the project built again, after the handler, its messages or the policies have changed:
// Wolverine cannot see that its code is stale.
public static class WolverineHandlerCode
{
    // Needs neither PostgreSQL nor RabbitMQ.
    public static async Task WriteAsync()
    {
        var stage = new BenchmarkStage("Host=localhost", new Uri("amqp://localhost"));
        using var host = new WolverineConsumingApp(stage).BuildHost();
        await host.RunJasperFxCommands(["codegen", "write"]);
    }

    internal static string Folder([CallerFilePath] string thisFile = "")
        => Path.Combine(Path.GetDirectoryName(thisFile)!, "..", "..", "Internal", "Generated");
}
