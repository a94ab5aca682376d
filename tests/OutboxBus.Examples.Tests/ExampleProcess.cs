using System.Diagnostics;
using System.Text;

namespace OutboxBus.Examples.Tests;

// An example as its users run it: a process of its own, known by its exit code and what it prints.
internal sealed class ExampleProcess : IAsyncDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(180);

    private readonly Process _process;
    private readonly StringBuilder _printed = new();
    private readonly TaskCompletionSource<Uri> _address = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ExampleProcess(string example, string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, $"{example}.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        _process = new Process { StartInfo = start, EnableRaisingEvents = true };
        _process.OutputDataReceived += (_, line) => Note(line.Data);
        _process.ErrorDataReceived += (_, line) => Note(line.Data);
        _process.Exited += (_, _) => _address.TrySetException(new InvalidOperationException($"The example has ended:{Environment.NewLine}{Printed}"));
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public string Printed
    {
        get
        {
            lock (_printed)
                return _printed.ToString();
        }
    }

    // Runs it to its end.
    public static async Task<(int ExitCode, string Printed)> RunAsync(string example, params string[] arguments)
    {
        await using var process = new ExampleProcess(example, arguments);
        using var limit = new CancellationTokenSource(s_limit);
        await process._process.WaitForExitAsync(limit.Token);
        return (process._process.ExitCode, process.Printed);
    }

    // Starts it and returns when it listens.
    public static async Task<(ExampleProcess Process, Uri Address)> ServeAsync(string example, params string[] arguments)
    {
        var process = new ExampleProcess(example, ["--serve", .. arguments]);
        return (process, await process._address.Task.WaitAsync(s_limit));
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private void Note(string? line)
    {
        const string Listening = "Listening on ";
        if (line is null)
            return;
        lock (_printed)
            _printed.AppendLine(line);
        if (line.StartsWith(Listening, StringComparison.Ordinal))
            _address.TrySetResult(new Uri(line[Listening.Length..]));
    }
}
