using System.Text.Json;

namespace OutboxBus.Benchmarks.Measuring;

// Everything that was measured in a run.
public sealed class ResultSet
{
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    private readonly Dictionary<(string Workload, string Contestant, string Metric), (string Unit, List<double> Values)> _values = [];
    private readonly List<Result> _earlier = [];

    // In the order in which they were first seen.
    public IEnumerable<Result> Results => _earlier.Concat(_values.Select(entry => Summarize(entry.Key, entry.Value.Unit, entry.Value.Values)));

    public IEnumerable<string> Workloads => Results.Select(result => result.Workload).Distinct();

    // Results of earlier runs.
    public static ResultSet Of(IEnumerable<Result> results)
    {
        var set = new ResultSet();
        set._earlier.AddRange(results);
        return set;
    }

    public IEnumerable<string> ContestantsOf(string workload) => Results.Where(result => result.Workload == workload).Select(result => result.Contestant).Distinct().Order(StringComparer.Ordinal);

    public void Add(string workload, string contestant, IEnumerable<Sample> samples)
    {
        foreach (var sample in samples.Where(sample => double.IsFinite(sample.Value)))
        {
            var key = (workload, contestant, sample.Metric);
            if (!_values.TryGetValue(key, out var known))
                _values[key] = known = (sample.Unit, []);
            known.Values.Add(sample.Value);
        }
    }

    // Null: it was not measured.
    public Result? Find(string workload, string contestant, string metric)
        => Results.FirstOrDefault(result => result.Workload == workload && result.Contestant == contestant && result.Metric == metric);

    public string ToJson() => JsonSerializer.Serialize(Results, s_json);

    private static Result Summarize((string Workload, string Contestant, string Metric) key, string unit, List<double> values)
        => new Result(key.Workload, key.Contestant, key.Metric, unit, values.Median(), values.Min(), values.Max());
}

internal static class Medians
{
    public static double Median(this IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        var middle = sorted.Count / 2;
        return sorted.Count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }
}

public sealed record Result(string Workload, string Contestant, string Metric, string Unit, double Median, double Min, double Max);
