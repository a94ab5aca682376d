using System.Globalization;
using OutboxBus.Benchmarks.Measuring;
using Spectre.Console;

namespace OutboxBus.Benchmarks.Reporting;

// The results of one workload: a row for each contestant, the same for the console and for the document.
internal sealed class ResultTable
{
    private static readonly (string Metric, string Title, string Format)[] s_columns =
    [
        ("commits_per_second", "commits/s", "N0"),
        ("latency_p50_ms", "p50 ms", "0.00"),
        ("latency_p99_ms", "p99 ms", "0.00"),
        ("offered_per_second", "offered/s", "N0"),
        ("application_cpu_s_per_1000", "CPU app", "0.00"),
        ("postgres_cpu_s_per_1000", "CPU PostgreSQL", "0.00"),
        ("broker_cpu_s_per_1000", "CPU RabbitMQ", "0.00"),
        ("statements_per_message", "statements", "0.00"),
        ("round_trips_per_message", "round trips", "0.00"),
        ("wal_bytes_per_message", "WAL bytes", "N0"),
        ("allocated_kb_per_message", "KB allocated", "0.0"),
        ("duplicates", "duplicates", "0"),
        ("failed_transactions", "failed transactions", "0"),
    ];

    private readonly List<string> _titles = ["contestant"];
    private readonly List<List<string>> _rows = [];

    public ResultTable(ResultSet results, string workload)
    {
        var contestants = results.ContestantsOf(workload).ToList();
        var rate = contestants.Any(contestant => results.Find(workload, contestant, "messages_per_second") is not null);
        var columns = s_columns.Where(column => contestants.Any(contestant => results.Find(workload, contestant, column.Metric) is not null)).ToList();
        var known = columns.Select(column => column.Metric).Append("messages_per_second").ToHashSet();
        // Metrics of one workload alone, such as sizes of a table.
        var others = results.Results.Where(result => result.Workload == workload && !known.Contains(result.Metric)).Select(result => result.Metric).Distinct().ToList();

        if (rate)
            _titles.AddRange(["messages/s (min-max)", "of raw"]);
        _titles.AddRange(columns.Select(column => column.Title));
        if (others.Count > 0)
        {
            _titles.Add("measured");
            _titles.Add("value");
        }

        foreach (var contestant in contestants)
        {
            List<string> row = [contestant];
            if (rate)
            {
                var own = results.Find(workload, contestant, "messages_per_second");
                var raw = results.Find(workload, "raw", "messages_per_second");
                row.Add(own is null ? "" : $"{Number(own.Median, "N0")} ({Number(own.Min, "N0")}-{Number(own.Max, "N0")})");
                row.Add(own is null || raw is null ? "" : Number(own.Median / raw.Median, "0.00"));
            }

            row.AddRange(columns.Select(column => results.Find(workload, contestant, column.Metric) is { } result ? Number(result.Median, column.Format) : ""));
            if (others.Count == 0)
            {
                _rows.Add(row);
                continue;
            }

            _rows.AddRange(others.Select(metric => (List<string>)
            [
                .. row,
                metric.Replace('_', ' '),
                results.Find(workload, contestant, metric) is { } result ? $"{Number(result.Median, "N2")} {result.Unit}".TrimEnd() : "",
            ]));
        }
    }

    public Table ToConsole()
    {
        var table = new Table().Border(TableBorder.Minimal);
        foreach (var title in _titles)
            table.AddColumn(new TableColumn(title).NoWrap());
        foreach (var row in _rows)
            table.AddRow([.. row.Select(Markup.Escape)]);
        return table;
    }

    public string ToMarkdown()
    {
        var lines = new List<string> { Line(_titles), Line(_titles.Select((_, column) => column == 0 ? "---" : "---:")) };
        lines.AddRange(_rows.Select(Line));
        return string.Join('\n', lines);
    }

    private static string Line(IEnumerable<string> cells) => $"| {string.Join(" | ", cells)} |";

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
