using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace OutboxBus.TestServers.Processes;

// The process handle stays open as long as somebody may ask whether the server has ended; a finalizer closes it.
#pragma warning disable CA1001
internal sealed class ServerProcess
#pragma warning restore CA1001
{
    public const int Interrupt = 2;
    public const int Terminate = 15;

    private static readonly TimeSpan s_stopLimit = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly Queue<string> _lastLines = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ServerProcess(ProcessStartInfo command, string? readyLine)
    {
        command.RedirectStandardInput = true;
        command.RedirectStandardOutput = true;
        command.RedirectStandardError = true;
        _process = new Process { StartInfo = command };
        _process.OutputDataReceived += (_, line) => Received(line.Data, readyLine);
        _process.ErrorDataReceived += (_, line) => Received(line.Data, readyLine);
        try
        {
            _process.Start();
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new ServerUnavailableException($"{command.FileName} cannot be started: {e.Message}", e);
        }

        _process.StandardInput.Close();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        Id = _process.Id;
        Exited = _process.WaitForExitAsync();
    }

    public int Id { get; }

    // Ends when the output has ended too: when the server's own child processes, which hold it, have gone as well.
    public Task Exited { get; }

    public static ServerProcess Start(ProcessStartInfo command, string? readyLine) => new(command, readyLine);

    public static async Task<string> RunAsync(ProcessStartInfo command)
    {
        command.RedirectStandardInput = true;
        command.RedirectStandardOutput = true;
        command.RedirectStandardError = true;
        using var process = Process.Start(command)!;
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync();
        var errors = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        if (process.ExitCode == 0)
            return await output;
        throw new ServerUnavailableException(
            $"'{command.FileName} {string.Join(' ', command.ArgumentList)}' ended with exit code {process.ExitCode}:\n{await output}{await errors}".TrimEnd());
    }

    public async Task WaitUntilReadyAsync(TimeSpan limit)
    {
        var first = await Task.WhenAny(_ready.Task, Exited, Task.Delay(limit));
        if (first == _ready.Task)
            return;

        var what = first == Exited ? $"ended with exit code {_process.ExitCode} while starting" : $"was not ready after {limit.TotalSeconds} s";
        await KillAsync();
        throw new ServerUnavailableException($"{_process.StartInfo.FileName} {what}. Its last output:\n{LastLines()}");
    }

    public async Task WaitUntilListeningAsync(int port, TimeSpan limit)
    {
        _ = PollAsync();
        await WaitUntilReadyAsync(limit);

        async Task PollAsync()
        {
            for (var started = Stopwatch.GetTimestamp(); !Exited.IsCompleted && Stopwatch.GetElapsedTime(started) < limit; await Task.Delay(20))
            {
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                try
                {
                    await socket.ConnectAsync(IPAddress.Loopback, port);
                    _ready.TrySetResult();
                    return;
                }
                catch (SocketException)
                {
                    // Not yet.
                }
            }
        }
    }

    public async Task StopAsync(int signal)
    {
        if (!_process.HasExited)
            _ = SendSignal(Id, signal);
        if (await Task.WhenAny(Exited, Task.Delay(s_stopLimit)) != Exited)
            await KillAsync();
    }

    // With its children, while the parent is stopped: a PostgreSQL backend busy with a statement would otherwise go on, and might
    // commit after its server's "death".
    public async Task KillAsync()
    {
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        await Exited.WaitAsync(s_stopLimit);
    }

    [DllImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SendSignal(int pid, int signal);

    private void Received(string? line, string? readyLine)
    {
        if (line is null)
            return;
        lock (_lastLines)
        {
            _lastLines.Enqueue(line);
            if (_lastLines.Count > 40)
                _lastLines.Dequeue();
        }

        if (readyLine is not null && line.Contains(readyLine, StringComparison.Ordinal))
            _ready.TrySetResult();
    }

    private string LastLines()
    {
        lock (_lastLines)
            return string.Join('\n', _lastLines);
    }
}
