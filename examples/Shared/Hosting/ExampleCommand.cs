using System.CommandLine;
using System.CommandLine.Parsing;
using Examples.Walkthrough;
using Npgsql;

namespace Examples.Hosting;

/// <summary>The command line of an example: the walkthrough, or serving. Exit codes: 0 done, 1 failed, 2 wrong switches.</summary>
public sealed class ExampleCommand<TStage>
    where TStage : Stage
{
    private const int Failed = 1;
    private const int WrongSwitches = 2;

    private readonly Option<bool> _serve = new("--serve") { Description = "Serve the API until Ctrl+C instead of running the walkthrough." };
    private readonly Option<string> _url = new("--url") { Description = "With --serve: where to listen; default: a free port of the loopback address.", HelpName = "url" };
    private readonly Option<string> _postgres = new("--postgres") { Description = "Use this PostgreSQL database instead of a SQLite file. The tables go into a schema of their own.", HelpName = "connection string" };
    private readonly Option<string> _rabbitMq = new("--rabbitmq") { Description = "Use this RabbitMQ virtual host, best one of its own, instead of the in-memory transport.", HelpName = "amqp uri" };
    private readonly Option<string> _sqlite = new("--sqlite") { Description = "With --serve: the SQLite file, which is kept; default: a temporary one.", HelpName = "file" };
    private readonly Option<string> _schema;

    // For the walkthrough itself and its tests.
    private readonly Option<string> _victimOf = new(Victim.Switch) { Hidden = true };
    private readonly Option<bool> _survives = new(Victim.SurvivesSwitch) { Hidden = true };
    private readonly Option<string> _sabotage = new("--sabotage") { Hidden = true };
    private readonly Option<double> _patience = new("--patience") { Hidden = true, DefaultValueFactory = _ => 30 };

    private readonly Example<TStage> _example;

    public ExampleCommand(Example<TStage> example)
    {
        _example = example;
        _schema = new Option<string>("--schema") { Description = $"With --serve and --postgres: the schema, which is kept; default: {KeptSchema}.", HelpName = "name" };
    }

    private string KeptSchema => $"{_example.Name}_example";

    public async Task<int> RunAsync(string[] arguments)
    {
        var command = new RootCommand($"OutboxBus example: {_example.Description} Without switches: a walkthrough that shows and checks every promise.")
        {
            _serve, _url, _postgres, _rabbitMq, _sqlite, _schema, _victimOf, _survives, _sabotage, _patience,
        };
        foreach (var option in _example.Switches)
            command.Add(option);
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

    private Task<int> RunAsync(ParseResult parsed)
    {
        _example.Read(parsed);
        var unique = Guid.NewGuid().ToString("N")[..8];
        var isKept = parsed.GetValue(_serve) || parsed.GetValue(_victimOf) is not null;
        var engines = new Engines(
            parsed.GetValue(_sqlite) ?? Path.Combine(Path.GetTempPath(), $"{_example.Name}_walkthrough_{unique}.db"),
            parsed.GetValue(_postgres),
            parsed.GetValue(_schema) ?? (isKept ? KeptSchema : $"{_example.Name}_walkthrough_{unique}"),
            parsed.GetValue(_rabbitMq));

        if (parsed.GetValue(_serve))
            return Server.RunAsync(_example, engines, parsed.GetValue(_url), keepSqlite: parsed.GetValue(_sqlite) is not null);
        return parsed.GetValue(_victimOf) is { } customer
            ? Victim.BeAsync(_example, engines, customer, parsed.GetValue(_survives))
            : Tour.RunAsync(_example, engines, new Accidents(parsed.GetValue(_sabotage)), TimeSpan.FromSeconds(parsed.GetValue(_patience)), Console.Out);
    }

    private void Validate(CommandResult result)
    {
        if (result.GetValue(_postgres) is { } postgres && !IsConnectionString(postgres))
            result.AddError("--postgres is no connection string such as \"Host=localhost;Database=shop;Username=shop;Password=...\".");
        if (result.GetValue(_rabbitMq) is { } rabbit && !(Uri.TryCreate(rabbit, UriKind.Absolute, out var broker) && broker.Scheme is "amqp" or "amqps"))
            result.AddError("--rabbitmq is no URI such as \"amqp://user:password@localhost:5672/virtual-host\".");
        if (result.GetValue(_url) is { } url && !(Uri.TryCreate(url, UriKind.Absolute, out var address) && address.Scheme is "http"))
            result.AddError($"--url is \"{url}\", which is no URL such as \"http://127.0.0.1:5080\".");

        if (result.GetValue(_sqlite) is not null && result.GetValue(_postgres) is not null)
            result.AddError("--sqlite and --postgres exclude each other.");
        if (result.GetValue(_schema) is not null && result.GetValue(_postgres) is null)
            result.AddError("--schema needs --postgres.");
        // The walkthrough drops what it has used, and must never do that to somebody's data.
        if (!result.GetValue(_serve) && result.GetValue(_victimOf) is null && (result.GetValue(_sqlite) ?? result.GetValue(_schema) ?? result.GetValue(_url)) is not null)
            result.AddError("--sqlite, --schema and --url need --serve; the walkthrough makes a database of its own and drops it.");
        if (result.GetValue(_sabotage) is { } sabotage && _example.Steps.All(step => step.Name != sabotage))
            result.AddError($"--sabotage is \"{sabotage}\"; it must be one of {string.Join(", ", _example.Steps.Select(step => step.Name))}.");
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
