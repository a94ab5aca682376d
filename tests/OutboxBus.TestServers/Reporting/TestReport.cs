using System.Globalization;
using System.Xml.Linq;

namespace OutboxBus.TestServers.Reporting;

internal static class TestReport
{
    private const int SlowestShown = 10;

    private static readonly XNamespace s_trx = "http://microsoft.com/schemas/VisualStudio/TeamTest/2010";

    // 0 when tests ran and none failed.
    public static int Print(string folder, TextWriter output)
    {
        var files = Directory.Exists(folder) ? Directory.GetFiles(folder, "*.trx", SearchOption.AllDirectories) : [];
        var runs = files.Select(file => XDocument.Load(file).Root!).ToList();
        var results = runs.SelectMany(Results).ToList();
        var passed = results.Count(result => result.Outcome == "Passed");
        var skipped = results.Where(result => result.Outcome == "NotExecuted").ToList();
        var failed = results.Where(Failed).ToList();
        // A test host that crashed leaves only the results of the tests that had ended.
        var crashed = runs.Count(run => run.Element(s_trx + "ResultSummary")?.Attribute("outcome")?.Value != "Completed" && !Results(run).Any(Failed));

        if (results.Count > 0)
        {
            output.WriteLine("Slowest tests:");
            foreach (var result in results.OrderByDescending(result => result.Duration).Take(SlowestShown))
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {result.Duration.TotalSeconds,8:0.00} s  {result.Name}"));
        }

        List("Skipped tests:", skipped);
        List("Failed tests:", failed);
        if (crashed > 0)
            output.WriteLine($"Test runs that ended early: {crashed}");
        output.WriteLine($"{passed} passed, {failed.Count + crashed} failed, {skipped.Count} skipped");
        return failed.Count + crashed > 0 || passed == 0 ? 1 : 0;

        void List(string title, List<Result> list)
        {
            if (list.Count > 0)
                output.WriteLine(title);
            foreach (var result in list.OrderBy(result => result.Name, StringComparer.Ordinal))
                output.WriteLine($"  {result.Name}: {result.Message.ReplaceLineEndings(" ")}");
        }
    }

    private static IEnumerable<Result> Results(XElement run) => run.Descendants(s_trx + "UnitTestResult").Select(Read);

    private static bool Failed(Result result) => result.Outcome is not ("Passed" or "NotExecuted");

    private static Result Read(XElement result)
    {
        _ = TimeSpan.TryParse(result.Attribute("duration")?.Value, CultureInfo.InvariantCulture, out var duration);
        // A failure's text is in ErrorInfo, a skip's reason too, or in the standard output, depending on the logger's version.
        var message = result.Descendants(s_trx + "Message").FirstOrDefault()?.Value ?? result.Descendants(s_trx + "StdOut").FirstOrDefault()?.Value ?? "";
        return new Result(result.Attribute("testName")?.Value ?? "?", result.Attribute("outcome")?.Value ?? "?", duration, message.Trim());
    }

    private sealed record Result(string Name, string Outcome, TimeSpan Duration, string Message);
}
