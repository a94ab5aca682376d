using System.Text.Json;
using System.Text.Json.Serialization;

namespace OutboxBus.Benchmarks.Measuring;

// Everything that was measured in a run.
public sealed class ResultSet
{
    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    private readonly Dictionary<(string Workload, string Contestant, string Metric), (string Unit, List<double> Values)> _values = [];

    // In the order in which they were first seen.
    public IEnumerable<Result> Results => _values.Select(entry => Summarize(entry.Key, entry.Value.Unit, entry.Value.Values));

    public IEnumerable<string> Workloads => _values.Keys.Select(key => key.Workload).Distinct();

    public IEnumerable<string> ContestantsOf(string workload) => _values.Keys.Where(key => key.Workload == workload).Select(key => key.Contestant).Distinct();

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
        => _values.TryGetValue((workload, contestant, metric), out var known) ? Summarize((workload, contestant, metric), known.Unit, known.Values) : null;

    public string ToJson() => JsonSerializer.Serialize(Results, s_json);

    private static Result Summarize((string Workload, string Contestant, string Metric) key, string unit, List<double> values)
    {
        var sorted = values.Order().ToList();
        var middle = sorted.Count / 2;
        var median = sorted.Count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
        return new Result(key.Workload, key.Contestant, key.Metric, unit, median, sorted[0], sorted[^1]);
    }
}

public sealed record Result(string Workload, string Contestant, string Metric, string Unit, double Median, double Min, double Max)
{
    // How much the trials differ, of the median.
    [JsonIgnore]
    public double Spread => Median == 0 ? 0 : (Max - Min) / Median;
}
