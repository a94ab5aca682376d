using System.Globalization;

namespace Examples.Walkthrough;

/// <summary>Prints what happens and checks that it is what was promised.</summary>
public sealed class Transcript(TextWriter output)
{
    public int Checks { get; private set; }

    public void Title(string text)
    {
        output.WriteLine();
        output.WriteLine(text);
    }

    public void Say(string text) => output.WriteLine($"   {text}");

    /// <summary>Prints a promise that was kept.</summary>
    /// <exception cref="PromiseBrokenException">The outcome is another than promised.</exception>
    public void Check<T>(string promise, T expected, T actual)
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual))
            throw new PromiseBrokenException(promise, Show(expected), Show(actual));
        Checks++;
        output.WriteLine($"   ok: {promise}");
    }

    public void Broken(PromiseBrokenException failure)
    {
        output.WriteLine($"   FAILED: {failure.Promise}");
        output.WriteLine($"     expected: {failure.Expected}");
        output.WriteLine($"     actual:   {failure.Actual}");
    }

    private static string Show<T>(T value) => Convert.ToString(value, CultureInfo.InvariantCulture) ?? "nothing";
}

/// <summary>An outcome was not the promised one.</summary>
public sealed class PromiseBrokenException(string promise, string expected, string actual) : Exception($"{promise}: expected {expected}, actual {actual}")
{
    public string Promise => promise;

    public string Expected => expected;

    public string Actual => actual;
}
