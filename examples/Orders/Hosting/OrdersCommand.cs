using System.CommandLine;
using System.CommandLine.Parsing;
using Npgsql;
using Orders.Walkthrough;

namespace Orders.Hosting;

/// <summary>The command line: the walkthrough, or serving. Exit codes: 0 done, 1 failed, 2 wrong switches.</summary>
public static class OrdersCommand
{
    private const int Failed = 1;
    private const int WrongSwitches = 2;

    private static readonly Option<bool> Serve = new("--serve") { Description = "Serve the API until Ctrl+C instead of running the walkthrough." };
    private static readonly Option<string> Url = new("--url") { Description = "With --serve: where to listen; default: a free port of the loopback address.", HelpName = "url" };
    private static readonly Option<string> Postgres = new("--postgres") { Description = "Use this PostgreSQL database instead of a SQLite file. The tables go into a schema of their own.", HelpName = "connection string" };
    private static readonly Option<string> RabbitMq = new("--rabbitmq") { Description = "Use this RabbitMQ virtual host, best one of its own, instead of the in-memory transport.", HelpName = "amqp uri" };
    private static readonly Option<string> Sqlite = new("--sqlite") { Description = "With --serve: the SQLite file, which is kept; default: a temporary one.", HelpName = "file" };
    private static readonly Option<string> Schema = new("--schema") { Description = "With --serve and --postgres: the schema, which is kept; default: orders_example.", HelpName = "name" };

    // For the walkthrough itself and its tests.
    private static readonly Option<string> VictimOf = new(Victim.Switch) { Hidden = true };
    private static readonly Option<bool> Survives = new(Victim.SurvivesSwitch) { Hidden = true };
    private static readonly Option<string> Sabotage = new("--sabotage") { Hidden = true };
    private static readonly Option<double> Patience = new("--patience") { Hidden = true, DefaultValueFactory = _ => 30 };

    public static async Task<int> RunAsync(string[] arguments)
    {
        var command = new RootCommand("OutboxBus example: orders over an outbox. Without switches: a walkthrough that shows and checks every promise.")
        {
            Serve, Url, Postgres, RabbitMq, Sqlite, Schema, VictimOf, Survives, Sabotage, Patience,
        };
        command.Validators.Add(Validate);
        command.SetAction((parsed, _) => RunAsync(parsed));

        var result = command.Parse(arguments);
        if (result.Errors.Count > 0)
        {
            foreach (var error in result.Errors)
                await Console.Error.WriteLineAsync(error.Message);
            await Console.Error.WriteLineAsync("Use --help to see the switches.");
            return WrongSwitches;
        }

        try
        {
            // The default would print a stack trace.
            return await result.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (Exception exception)
        {
            await Console.Error.WriteLineAsync($"The example could not go on: {exception.GetType().Name}: {exception.Message}");
            return Failed;
        }
    }

    private static Task<int> RunAsync(ParseResult parsed)
    {
        var unique = Guid.NewGuid().ToString("N")[..8];
        var isKept = parsed.GetValue(Serve) || parsed.GetValue(VictimOf) is not null;
        var engines = new Engines(
            parsed.GetValue(Sqlite) ?? Path.Combine(Path.GetTempPath(), $"orders_walkthrough_{unique}.db"),
            parsed.GetValue(Postgres),
            parsed.GetValue(Schema) ?? (isKept ? "orders_example" : $"orders_walkthrough_{unique}"),
            parsed.GetValue(RabbitMq));

        if (parsed.GetValue(Serve))
            return Server.RunAsync(engines, parsed.GetValue(Url), keepSqlite: parsed.GetValue(Sqlite) is not null);
        return parsed.GetValue(VictimOf) is { } customer
            ? Victim.RunAsync(engines, customer, parsed.GetValue(Survives))
            : Tour.RunAsync(engines, new Accidents(parsed.GetValue(Sabotage)), TimeSpan.FromSeconds(parsed.GetValue(Patience)), Console.Out);
    }

    private static void Validate(CommandResult result)
    {
        if (result.GetValue(Postgres) is { } postgres && !IsConnectionString(postgres))
            result.AddError("--postgres is no connection string such as \"Host=localhost;Database=shop;Username=shop;Password=...\".");
        if (result.GetValue(RabbitMq) is { } rabbit && !(Uri.TryCreate(rabbit, UriKind.Absolute, out var broker) && broker.Scheme is "amqp" or "amqps"))
            result.AddError("--rabbitmq is no URI such as \"amqp://user:password@localhost:5672/virtual-host\".");
        if (result.GetValue(Url) is { } url && !(Uri.TryCreate(url, UriKind.Absolute, out var address) && address.Scheme is "http"))
            result.AddError($"--url is \"{url}\", which is no URL such as \"http://127.0.0.1:5080\".");

        if (result.GetValue(Sqlite) is not null && result.GetValue(Postgres) is not null)
            result.AddError("--sqlite and --postgres exclude each other.");
        if (result.GetValue(Schema) is not null && result.GetValue(Postgres) is null)
            result.AddError("--schema needs --postgres.");
        // The walkthrough drops what it has used, and must never do that to somebody's data.
        if (!result.GetValue(Serve) && result.GetValue(VictimOf) is null && (result.GetValue(Sqlite) ?? result.GetValue(Schema) ?? result.GetValue(Url)) is not null)
            result.AddError("--sqlite, --schema and --url need --serve; the walkthrough makes a database of its own and drops it.");
        if (result.GetValue(Sabotage) is { } sabotage && Tour.Steps.All(step => step.Name != sabotage))
            result.AddError($"--sabotage is \"{sabotage}\"; it must be one of {string.Join(", ", Tour.Steps.Select(step => step.Name))}.");
    }

    private static bool IsConnectionString(string text)
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(text).Host is not null;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }
}
