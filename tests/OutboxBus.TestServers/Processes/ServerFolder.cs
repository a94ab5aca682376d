using System.Diagnostics;

namespace OutboxBus.TestServers.Processes;

internal sealed class ServerFolder : IDisposable
{
    private ServerFolder(string path)
    {
        FullPath = path;
        Lifeline = new Lifeline(path);
    }

    public string FullPath { get; }

    public Lifeline Lifeline { get; }

    // The server's user makes the folder, which makes it the owner; .NET has no chown.
    public static async Task<ServerFolder> CreateAsync(ServerAccount account, string name)
    {
        var path = Path.Combine(account.TempPath, $"outboxbus-{name}-{Guid.NewGuid():N}"[..(name.Length + 19)]);
        var mkdir = account.Command("mkdir", "-m", "0755", path);
        mkdir.WorkingDirectory = "/";
        await ServerProcess.RunAsync(mkdir);
        return new ServerFolder(path);
    }

    public string PathOf(string name) => Path.Combine(FullPath, name);

    public string Write(string name, string content)
    {
        var path = PathOf(name);
        File.WriteAllText(path, content);
        if (!OperatingSystem.IsWindows())
        {
            // Readable by the server's user under any umask.
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        }

        return path;
    }

    public ServerProcess Start(ProcessStartInfo command, string? readyLine = null)
    {
        command.WorkingDirectory = FullPath;
        var process = ServerProcess.Start(command, readyLine);
        Lifeline.Add(process.Id);
        _ = process.Exited.ContinueWith(_ => Lifeline.Remove(process.Id), TaskScheduler.Default);
        return process;
    }

    // The lifeline removes the folder.
    public void Dispose() => Lifeline.Dispose();
}
