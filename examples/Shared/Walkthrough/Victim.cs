using System.Diagnostics;
using System.Reflection;
using Examples.Hosting;

namespace Examples.Walkthrough;

/// <summary>The process that dies: the whole application, which takes one order and is killed on its way.</summary>
public static class Victim
{
    public const string Switch = "--victim";
    public const string SurvivesSwitch = "--survives";

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    /// <summary>The exit code of a killed process: 128 + SIGKILL, and what Windows reports of a terminated process.</summary>
    public static readonly int Killed = OperatingSystem.IsWindows() ? -1 : 137;

    /// <summary>Starts this very program again, as the victim; returns its exit code.</summary>
    public static async Task<int> RunAsync(Engines engines, string customer, bool survives)
    {
        using var victim = Process.Start(StartInfo(engines, customer, survives))!;
        using var limit = new CancellationTokenSource(Limit);
        try
        {
            await victim.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            victim.Kill();
            throw new PromiseBrokenException("the other process ends", "an exit", $"it is still running after {Limit.TotalSeconds} s");
        }

        return victim.ExitCode;
    }

    /// <summary>What that process does.</summary>
    public static async Task<int> BeAsync<TStage>(Example<TStage> example, Engines engines, string customer, bool survives)
        where TStage : Stage
    {
        var accidents = new Accidents();
        await using var app = example.Build(engines, "http://127.0.0.1:0", logging => logging.ClearProviders(), accidents.FaultPoints);
        await app.StartAsync();
        using var client = new HttpClient { BaseAddress = new Uri(app.Urls.Single()) };
        await example.BeVictimAsync(app, client, accidents, customer, survives);
        await app.StopAsync();
        return 0;
    }

    private static ProcessStartInfo StartInfo(Engines engines, string customer, bool survives)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!);
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet")
            start.ArgumentList.Add(Assembly.GetEntryAssembly()!.Location);
        string[] arguments = engines.Postgres is null ? ["--sqlite", engines.SqliteFile] : ["--postgres", engines.Postgres, "--schema", engines.Schema];
        foreach (var argument in (string[])[.. arguments, Switch, customer])
            start.ArgumentList.Add(argument);
        if (engines.RabbitMq is not null)
        {
            start.ArgumentList.Add("--rabbitmq");
            start.ArgumentList.Add(engines.RabbitMq);
        }

        if (survives)
            start.ArgumentList.Add(SurvivesSwitch);
        return start;
    }
}
