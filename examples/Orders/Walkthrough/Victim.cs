using System.Diagnostics;
using System.Reflection;
using Orders.Api;
using Orders.Hosting;

namespace Orders.Walkthrough;

/// <summary>The process that dies: the whole application, which takes one order and is killed when that is committed.</summary>
public static class Victim
{
    public const string Switch = "--victim";
    public const string SurvivesSwitch = "--survives";

    /// <summary>Starts this very program again, as the victim.</summary>
    public static ProcessStartInfo StartInfo(Engines engines, string customer, bool survives)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!);
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet")
            start.ArgumentList.Add(Assembly.GetExecutingAssembly().Location);
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

    public static async Task<int> RunAsync(Engines engines, string customer, bool survives)
    {
        var accidents = new Accidents();
        await using var app = OrdersApp.Build(engines, "http://127.0.0.1:0", logging => logging.ClearProviders(), accidents.FaultPoints);
        await app.StartAsync();
        if (!survives)
        {
            accidents.OnNextCommit(() =>
            {
                // Not Environment.Exit and not FailFast: nothing of this process may run any more, no handler, no finally.
                using var self = Process.GetCurrentProcess();
                self.Kill();
                return Task.CompletedTask;
            });
        }

        using var client = new HttpClient();
        using var response = await client.PostAsJsonAsync(new Uri(new Uri(app.Urls.Single()), "/orders"), new PlaceOrder(customer, "teapot", 1));
        await app.StopAsync();
        return 0;
    }
}
