using OutboxBus.Benchmarks.Measuring;
using OutboxBus.Benchmarks.Workloads;

namespace OutboxBus.Benchmarks.Reporting;

// docs/performance.md: what people have written stays, what stands between the marks is this run's.
internal static class Document
{
    private const string Begin = "<!-- results: written by build/bench -->";
    private const string End = "<!-- end of results -->";

    public static async Task WriteAsync(string file, ResultSet results, IReadOnlyList<Workload> workloads)
    {
        var text = await File.ReadAllTextAsync(file);
        var (begin, end) = (text.IndexOf(Begin, StringComparison.Ordinal), text.IndexOf(End, StringComparison.Ordinal));
        if (begin < 0 || end < begin)
            throw new InvalidOperationException($"{file} has no lines \"{Begin}\" and \"{End}\" between which the results go.");

        var chart = Path.ChangeExtension(file, ".svg");
        Chart.Save(results, chart);
        var sections = workloads.Where(workload => results.ContestantsOf(workload.Name).Any())
            .Select(workload => $"### {workload.Name}: {workload.Description}\n\n{new ResultTable(results, workload.Name).ToMarkdown()}\n");
        await File.WriteAllTextAsync(file, $"""
            {text[..begin]}{Begin}

            {DateTime.UtcNow:yyyy-MM-dd}, commit {Machine.Commit()}, {Machine.Describe()}.

            ![messages per second]({Path.GetFileName(chart)})

            {string.Join('\n', sections)}
            {text[end..]}
            """.ReplaceLineEndings("\n"));
    }
}
