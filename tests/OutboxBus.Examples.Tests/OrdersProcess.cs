using System.Diagnostics;
using System.Text;

namespace OutboxBus.Examples.Tests;

// The example as its users run it: a process of its own, known by its exit code and what it prints.
internal sealed class OrdersProcess : IAsyncDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(180);

    private readonly Process _process;
    private readonly StringBuilder _printed = new();
    private readonly TaskCompletionSource<Uri> _address = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private OrdersProcess(string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Orders.dll"), .. arguments])
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
    public static async Task<(int ExitCode, string Printed)> RunAsync(params string[] arguments)
    {
        await using var orders = new OrdersProcess(arguments);
        using var limit = new CancellationTokenSource(s_limit);
        await orders._process.WaitForExitAsync(limit.Token);
        return (orders._process.ExitCode, orders.Printed);
    }

    // Starts it and returns when it listens.
    public static async Task<(OrdersProcess Process, Uri Address)> ServeAsync(params string[] arguments)
    {
        var orders = new OrdersProcess(["--serve", .. arguments]);
        return (orders, await orders._address.Task.WaitAsync(s_limit));
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
