using System.Diagnostics;
using System.Runtime.InteropServices;
using OutboxBus.TestServers.Finding;
using OutboxBus.TestServers.Reporting;

namespace OutboxBus.TestServers;

internal static class Program
{
    private static async Task<int> Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["report", var folder]:
                return TestReport.Print(folder, Console.Out);
            case [var file, .. var rest]:
                return await RunAsync(file, rest);
            default:
                await Console.Error.WriteLineAsync("Usage: <command> [arguments...], run with test servers in its environment; or: report <folder of trx files>");
                return 64;
        }
    }

    // The servers end with this process (see Lifeline).
    private static async Task<int> RunAsync(string file, string[] arguments)
    {
        var command = new ProcessStartInfo(file, arguments);
        var postgres = Servers.TryFindPostgresAsync();
        var rabbitMq = Servers.TryFindRabbitMqAsync();

        var (connectionString, reason) = await postgres;
        if (connectionString is not null)
            command.Environment[ServerSources.PostgresVariable] = connectionString;
        else
            await Console.Error.WriteLineAsync(reason);

        (var endpoint, reason) = await rabbitMq;
        if (endpoint is not null)
        {
            command.Environment[ServerSources.RabbitMqVariable] = endpoint.Amqp.AbsoluteUri;
            command.Environment[ServerSources.RabbitMqManagementVariable] = endpoint.Management!.AbsoluteUri;
        }
        else
        {
            await Console.Error.WriteLineAsync(reason);
        }

        using var process = Process.Start(command)!;
        // A terminal's Ctrl+C reaches the command by itself, a signal to this process only does not.
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => signal.Cancel = true);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal =>
        {
            signal.Cancel = true;
            process.Kill(entireProcessTree: true);
        });
        await process.WaitForExitAsync();
        return process.ExitCode;
    }
}
