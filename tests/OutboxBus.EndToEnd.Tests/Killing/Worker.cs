using System.Diagnostics;
using OutboxBus.TestServers;
using OutboxBus.Workload;

namespace OutboxBus.EndToEnd.Tests.Killing;

/// <summary>A child process that runs the workload. Ended with this object; its standard input ends with the test's process.</summary>
internal sealed class Worker : IAsyncDisposable
{
    // 128 + 9, as a shell would report SIGKILL.
    private const int Killed = 137;

    private readonly Process _process;
    private readonly Task<string> _errors;
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Task _reading;
    private readonly List<string> _output = [];

    private Worker(Process process)
    {
        _process = process;
        _errors = process.StandardError.ReadToEndAsync();
        _reading = ReadAsync();
    }

    public static async Task<Worker> StartAsync(Settings settings)
    {
        var program = Path.Combine(AppContext.BaseDirectory, "OutboxBus.Workload.dll");
        var worker = new Worker(Process.Start(new ProcessStartInfo("dotnet", [program, .. settings.ToArguments()])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!);
        // A deadly point may be reached before the host has started.
        await Task.WhenAny(worker._ready.Task, worker._reading).WaitAsync(Eventually.Limit);
        return worker;
    }

    /// <summary>Waits until all orders are placed.</summary>
    public async Task PlacedAllAsync()
    {
        await Task.WhenAny(_done.Task, _reading).WaitAsync(Eventually.Limit);
        if (!_done.Task.IsCompleted)
            throw new InvalidOperationException($"The worker ended before it had placed all orders: {await DescribeAsync()}");
    }

    /// <summary>Waits until the process has killed itself, and nothing else has ended it.</summary>
    public async Task DiedAsync()
    {
        await _process.WaitForExitAsync().WaitAsync(Eventually.Limit);
        if (_process.ExitCode != Killed)
            throw new InvalidOperationException($"The worker was not killed: {await DescribeAsync()}");
    }

    /// <summary>Whether the process kills itself before it has placed all orders and the condition holds.</summary>
    public async Task<bool> DiesBeforeAsync(Func<Task<bool>> condition)
    {
        await Eventually.BecomesAsync(async () => _process.HasExited || (_done.Task.IsCompleted && await condition()), "death or the end of the work");
        return _process.HasExited;
    }

    /// <summary>An orderly stop of the host.</summary>
    public async Task StopAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync().WaitAsync(Eventually.Limit);
        if (_process.ExitCode != 0)
            throw new InvalidOperationException($"The worker failed: {await DescribeAsync()}");
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            _process.Kill();
        await _process.WaitForExitAsync();
        await _reading;
        _process.Dispose();
    }

    private async Task ReadAsync()
    {
        while (await _process.StandardOutput.ReadLineAsync() is { } line)
        {
            _output.Add(line);
            if (line == Program.Ready)
                _ready.TrySetResult();
            if (line == Program.Done)
                _done.TrySetResult();
        }
    }

    private async Task<string> DescribeAsync()
    {
        await _process.WaitForExitAsync();
        await _reading;
        return $"exit code {_process.ExitCode}\n{string.Join('\n', _output)}\n{await _errors}";
    }
}
