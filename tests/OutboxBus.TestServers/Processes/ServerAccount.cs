using System.Diagnostics;

namespace OutboxBus.TestServers.Processes;

// PostgreSQL refuses to run as root, and RabbitMQ's data must not belong to it. setpriv execs, so the process id that
// Process.Start returns is the server's own; su and runuser fork, and a kill would only reach the wrapper.
internal sealed class ServerAccount
{
    private readonly string? _user;

    private ServerAccount(string? user) => _user = user;

    public static ServerAccount Find(string user)
    {
        if (!Environment.IsPrivilegedProcess || OperatingSystem.IsWindows())
            return new ServerAccount(null);

        if (Executables.InPath("setpriv") is null)
            throw new ServerUnavailableException("running as root, and setpriv, which would change to another user, is not installed");
        if (!File.ReadLines("/etc/passwd").Any(line => line.StartsWith(user + ":", StringComparison.Ordinal)))
            throw new ServerUnavailableException($"running as root, and the user {user}, as which the server would run, does not exist");
        return new ServerAccount(user);
    }

    public ProcessStartInfo Command(string file, params IEnumerable<string> arguments)
    {
        if (_user is null)
            return new ProcessStartInfo(file, arguments);
        return new ProcessStartInfo("setpriv",
            [$"--reuid={_user}", $"--regid={_user}", "--init-groups", file, .. arguments]);
    }

    // TMPDIR may be closed to the server's user when this process is root.
    public string TempPath => _user is null ? Path.GetTempPath() : "/tmp";
}
