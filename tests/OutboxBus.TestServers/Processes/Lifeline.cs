using System.Diagnostics;

namespace OutboxBus.TestServers.Processes;

// Servers must not outlive this process, however it ends: the test runner kills a test host that takes longer than 100 ms
// to exit, so an exit handler is not enough. A parent-death signal (setpriv --pdeathsig) is no answer either: it is sent when the
// *thread* that started the child ends, and pool threads do. So a small shell waits on a pipe from this process; when the
// pipe closes, for whatever reason, it kills the servers it was last told of and removes their folder.
internal sealed class Lifeline : IDisposable
{
    private const string Script = """
        exec >/dev/null 2>&1
        trap '' HUP INT QUIT TERM
        servers=
        while read -r line; do servers=$line; done
        [ -z "$servers" ] || kill -KILL $servers
        tries=0
        while [ -e "$1" ] && [ "$tries" -lt 50 ]; do
          rm -rf "$1" || sleep 0.1
          tries=$((tries + 1))
        done
        """;

    // Also keeps the pipes alive: a collected one would be closed, and its server killed, in the middle of a test.
    private static readonly HashSet<Lifeline> s_open = [];

    private readonly Lock _lock = new();
    private readonly List<int> _servers = [];
    private readonly Process _shell;
    private bool _closed;

    public Lifeline(string folder)
    {
        _shell = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", Script, "outboxbus-test-servers", folder])
        {
            RedirectStandardInput = true,
            WorkingDirectory = "/",
        })!;
        lock (s_open)
            s_open.Add(this);
    }

    public void Add(int pid) => Change(() => _servers.Add(pid));

    public void Remove(int pid) => Change(() => _servers.Remove(pid));

    public void Dispose()
    {
        lock (s_open)
            s_open.Remove(this);
        Change(_servers.Clear);
        lock (_lock)
        {
            _closed = true;
            _shell.StandardInput.Dispose();
        }

        _shell.WaitForExit(TimeSpan.FromSeconds(10));
        _shell.Dispose();
    }

    private void Change(Action change)
    {
        lock (_lock)
        {
            if (_closed)
                return;
            change();
            _shell.StandardInput.WriteLine(string.Join(' ', _servers));
            _shell.StandardInput.Flush();
        }
    }
}
