using System.Text.RegularExpressions;
using FluentAssertions;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// Every cell of the table names the test that proves it: here, that there is such a test.
public sealed partial class RetryMatrix
{
    [Fact]
    public void Every_test_the_matrix_names_exists()
    {
        var root = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(root.FullName, "OutboxBus.sln")))
            root = root.Parent!;
        var sources = Directory.EnumerateFiles(Path.Combine(root.FullName, "tests"), "*.cs", SearchOption.AllDirectories).Select(File.ReadAllText).ToList();
        var named = TestName().Matches(File.ReadAllText(Path.Combine(root.FullName, "docs", "retries.md"))).Select(match => (Class: match.Groups[1].Value, Test: match.Groups[2].Value)).Distinct().ToList();

        named.Should().HaveCountGreaterThan(15, "a page without tests would prove nothing");
        named.Should().OnlyContain(name => sources.Any(source =>
            Regex.IsMatch(source, $@"class {name.Class}\b") && Regex.IsMatch(source, $@"(Fact|Theory|Data)[^;{{}}]*\bTask {name.Test}\(")));
    }

    // `Class.Test_in_words`
    [GeneratedRegex(@"`(\w+)\.([A-Z][a-z]*_\w+)`")]
    private static partial Regex TestName();
}
