using OutboxBus.Benchmarks.Measuring;
using ScottPlot;

namespace OutboxBus.Benchmarks.Reporting;

// Messages per second of every contestant, relative to the raw code, workload by workload.
internal static class Chart
{
    private const int Width = 1100;
    private const int Height = 420;
    private const double BarWidth = 0.8;

    public static void Save(ResultSet results, string file)
    {
        var workloads = results.Workloads.Where(workload => results.Find(workload, "raw", "messages_per_second") is not null).ToList();
        var contestants = workloads.SelectMany(results.ContestantsOf).Distinct().ToList();
        using var plot = new Plot();
        var palette = new ScottPlot.Palettes.Category10();
        var bars = new List<Bar>();
        var ticks = new List<Tick>();
        var position = 0.0;
        foreach (var workload in workloads)
        {
            var raw = results.Find(workload, "raw", "messages_per_second")!;
            var start = position;
            foreach (var contestant in contestants.Where(results.ContestantsOf(workload).Contains))
            {
                var own = results.Find(workload, contestant, "messages_per_second")!;
                bars.Add(new Bar { Position = position, Value = own.Median / raw.Median, FillColor = palette.GetColor(contestants.IndexOf(contestant)), Size = BarWidth, Label = $"{own.Median:0}" });
                position++;
            }

            ticks.Add(new Tick((start + position - 1) / 2, workload));
            position++;
        }

        var drawn = plot.Add.Bars(bars);
        drawn.ValueLabelStyle.FontSize = 11;
        plot.Axes.Bottom.TickGenerator = new ScottPlot.TickGenerators.NumericManual([.. ticks]);
        plot.Axes.Bottom.MajorTickStyle.Length = 0;
        plot.YLabel("messages/s relative to raw");
        plot.Add.HorizontalLine(1, 1, Colors.Gray);
        plot.Axes.Margins(bottom: 0, top: 0.15);
        plot.HideGrid();
        plot.Legend.IsVisible = true;
        plot.Legend.ManualItems.AddRange(contestants.Select((contestant, index) => new LegendItem { LabelText = contestant, FillColor = palette.GetColor(index) }));
        plot.ShowLegend(Edge.Right);
        plot.SaveSvg(file, Width, Height);
    }
}
