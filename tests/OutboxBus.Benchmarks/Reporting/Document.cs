using System.Text.Json;
using OutboxBus.Benchmarks.Measuring;
using OutboxBus.Benchmarks.Workloads;

namespace OutboxBus.Benchmarks.Reporting;

// docs/performance.md, with the data behind it and a chart beside it. A run replaces the workloads it has measured; what people have
// written around the marks stays.
internal static class Document
{
    private const string Begin = "<!-- results: written by build/bench -->";
    private const string End = "<!-- end of results -->";

    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    public static async Task WriteAsync(string file, ResultSet results, IReadOnlyList<Workload> workloads)
    {
        var text = await File.ReadAllTextAsync(file);
        var (begin, end) = (text.IndexOf(Begin, StringComparison.Ordinal), text.IndexOf(End, StringComparison.Ordinal));
        if (begin < 0 || end < begin)
            throw new InvalidOperationException($"{file} has no lines \"{Begin}\" and \"{End}\" between which the results go.");

        var data = Path.ChangeExtension(file, ".json");
        var sections = File.Exists(data) ? JsonSerializer.Deserialize<List<Section>>(await File.ReadAllTextAsync(data), s_json)! : [];
        foreach (var workload in workloads)
            Replace(sections, Measured(workload, results));
        await File.WriteAllTextAsync(data, JsonSerializer.Serialize(sections, s_json) + "\n");

        var all = ResultSet.Of(sections.SelectMany(section => section.Results));
        var chart = Path.ChangeExtension(file, ".svg");
        Chart.Save(all, chart);
        await File.WriteAllTextAsync(file, $"""
            {text[..begin]}{Begin}

            ![messages per second, relative to the hand-written code]({Path.GetFileName(chart)})

            {string.Join('\n', sections.Select(section => section.ToMarkdown(all)))}
            {text[end..]}
            """.ReplaceLineEndings("\n"));
    }

    private static Section Measured(Workload workload, ResultSet results) => new(
        workload.Name, workload.Description, $"{DateTime.UtcNow:yyyy-MM-dd}", Machine.Commit(), Machine.Describe(), [.. results.Results.Where(result => result.Workload == workload.Name)]);

    private static void Replace(List<Section> sections, Section measured)
    {
        var index = sections.FindIndex(section => section.Workload == measured.Workload);
        if (index < 0)
            sections.Add(measured);
        else
            sections[index] = measured;
    }

    // One workload, and where and of what it was measured.
    private sealed record Section(string Workload, string Description, string Date, string Commit, string Machine, IReadOnlyList<Result> Results)
    {
        public string ToMarkdown(ResultSet all) => $"### {Workload}: {Description}\n\n{new ResultTable(all, Workload).ToMarkdown()}\n\n{Date}, commit {Commit}, {Machine}.\n";
    }
}
