using System.CommandLine;
using OutboxBus.Benchmarks;
using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Contestants.Wolverine;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.Benchmarks.Reporting;
using OutboxBus.Benchmarks.Workloads;
using Spectre.Console;

const double SoakRate = 1_500;
const int TableWidth = 200;

var quick = new Option<bool>("--quick") { Description = "Two minutes, for a first look." };
var tiny = new Option<bool>("--tiny") { Description = "Seconds; shows that everything still works and measures nothing." };
var workload = new Option<string[]>("--workload") { Description = "Only workloads whose names begin so, such as W1 or W2-quorum.", AllowMultipleArgumentsPerToken = true };
var contestant = new Option<string[]>("--contestant") { Description = "Only these contestants.", AllowMultipleArgumentsPerToken = true };
var repetitions = new Option<int?>("--repetitions") { Description = "Measured rounds of each workload, after one that is not measured; default 5. One, as with --quick, is measured cold." };
var soak = new Option<double?>("--soak") { Description = "Instead of the workloads: so many minutes of half load, and what becomes of memory.", HelpName = "minutes" };
var soakRate = new Option<double>("--soak-rate") { Description = "Messages per second of the soak.", DefaultValueFactory = _ => SoakRate };
var json = new Option<FileInfo?>("--json") { Description = "Writes the results to this file." };
var document = new Option<FileInfo?>("--document") { Description = "Writes the results into this Markdown file and a chart beside it." };
// After a change to Wolverine's handler, its messages or its settings.
var writeHandlerCode = new Option<bool>("--write-wolverine-code") { Hidden = true };
workload.Aliases.Add("-w");
contestant.Aliases.Add("-c");

var command = new RootCommand("OutboxBus benchmarks. Starts a PostgreSQL and a RabbitMQ of its own and runs every contestant interleaved.")
{
    quick, tiny, workload, contestant, repetitions, soak, soakRate, json, document, writeHandlerCode,
};
command.SetAction(async (parsed, cancelled) =>
{
    if (parsed.GetValue(writeHandlerCode))
    {
        await WolverineHandlerCode.WriteAsync();
        return 0;
    }

    var scale = parsed.GetValue(tiny) ? Scale.Tiny : parsed.GetValue(quick) ? Scale.Quick : Scale.Full;
    var workloads = parsed.GetValue(soak) is { } minutes
        ? [new SoakWorkload("soak", $"{minutes} minutes at {parsed.GetValue(soakRate)} messages a second", new OutboxBusContestant(), parsed.GetValue(soakRate), TimeSpan.FromMinutes(minutes))]
        : Suite.Create(scale, parsed.GetValue(workload) ?? [], parsed.GetValue(contestant) ?? []);
    if (workloads.Count == 0)
    {
        await Console.Error.WriteLineAsync($"No workload is left. Workloads: {string.Join(", ", Suite.Create(scale, [], []).Select(each => each.Name))}; contestants: {string.Join(", ", Suite.Contestants)}.");
        return 2;
    }

    // The tables are wider than what a console claims to be when its output goes to a file.
    AnsiConsole.Profile.Width = Math.Max(AnsiConsole.Profile.Width, TableWidth);
    AnsiConsole.WriteLine($"{Machine.Describe()}; commit {Machine.Commit()}");
    await using var servers = await BenchmarkServers.StartAsync();
    var results = await RunAsync(new BenchmarkRun(servers, workloads, parsed.GetValue(repetitions) ?? scale.Repetitions));
    foreach (var each in workloads)
    {
        AnsiConsole.WriteLine($"\n{each.Name}: {each.Description}");
        AnsiConsole.Write(new ResultTable(results, each.Name).ToConsole());
    }

    if (parsed.GetValue(json) is { } jsonFile)
        await File.WriteAllTextAsync(jsonFile.FullName, results.ToJson(), cancelled);
    if (parsed.GetValue(document) is { } documentFile)
        await Document.WriteAsync(documentFile.FullName, results, workloads);
    return 0;
});
return await command.Parse(args).InvokeAsync();

static Task<ResultSet> RunAsync(BenchmarkRun run)
    => AnsiConsole.Progress().Columns(new SpinnerColumn(), new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
        .StartAsync(async progress =>
        {
            var bar = progress.AddTask("starting", maxValue: run.Trials);
            var trial = 0;
            var results = await run.RunAsync(name =>
            {
                bar.Description = name;
                bar.Value = trial++;
            });
            bar.Value = bar.MaxValue;
            return results;
        });
