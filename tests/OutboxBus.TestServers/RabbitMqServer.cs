using System.Diagnostics;
using OutboxBus.TestServers.Finding;
using OutboxBus.TestServers.Processes;

namespace OutboxBus.TestServers;

public sealed class RabbitMqServer : IAsyncDisposable
{
    private const int StartAttempts = 3;

    private static readonly TimeSpan s_startLimit = TimeSpan.FromSeconds(120);

    private readonly string _binaries;
    private readonly ServerAccount _account;
    private readonly ServerFolder _folder;
    private readonly Dictionary<string, string> _environment = [];
    private ServerProcess? _nameServer;
    private ServerProcess? _process;
    private RabbitMqEndpoint? _endpoint;

    private RabbitMqServer(string binaries, ServerAccount account, ServerFolder folder)
    {
        _binaries = binaries;
        _account = account;
        _folder = folder;
    }

    // Of the default virtual host.
    public Uri Uri => Endpoint.Amqp;

    // Of the management plug-in; user and password are those of Uri.
    public Uri ManagementUri => Endpoint.Management!;

    public int ProcessId => _process!.Id;

    internal string Folder => _folder.FullPath;

    internal RabbitMqEndpoint Endpoint => _endpoint ?? throw new InvalidOperationException("The server has not started.");

    public static async Task<RabbitMqServer> StartAsync()
    {
        var binaries = FindBinaries();
        var account = ServerAccount.Find("rabbitmq");
        for (var attempt = 1; ; attempt++)
        {
            var server = new RabbitMqServer(binaries, account, await ServerFolder.CreateAsync(account, "rabbitmq"));
            try
            {
                await server.ConfigureAsync();
                await server.StartProcessAsync();
                return server;
            }
            catch (ServerUnavailableException) when (attempt < StartAttempts)
            {
                // Most likely another process took one of the ports in the meantime.
                await server.DisposeAsync();
            }
            catch
            {
                await server.DisposeAsync();
                throw;
            }
        }
    }

    public async Task<Uri> CreateVirtualHostAsync(string name) => await Endpoint.CreateVirtualHostAsync(name);

    // Runs rabbitmqctl with the arguments and returns what it printed.
    public async Task<string> ControlAsync(params string[] arguments) =>
        await ServerProcess.RunAsync(Command("rabbitmqctl", ["-q", .. arguments]));

    public async Task KillAsync()
    {
        if (_process is { } process)
            await process.KillAsync();
    }

    // An orderly shutdown; the data stays for RestartAsync.
    public async Task StopAsync()
    {
        if (_process is { } process)
            await process.StopAsync(ServerProcess.Terminate);
    }

    public async Task RestartAsync()
    {
        await StopAsync();
        await StartProcessAsync();
    }

    // The data is thrown away, so nothing is gained by an orderly shutdown.
    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        if (_nameServer is { } nameServer)
            await nameServer.KillAsync();
        _folder.Dispose();
    }

    // Not the wrappers in /usr/sbin: Debian's refuse to run as another user than root and rabbitmq.
    private static string FindBinaries() =>
        Executables.FolderWith(
            ["rabbitmq-server", "rabbitmqctl"],
            [
                "/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin",
                .. Executables.InPath("rabbitmq-server") is { } folder and not ("/usr/sbin" or "/sbin") ? [folder] : Array.Empty<string>(),
            ])
        ?? throw new ServerUnavailableException("rabbitmq-server is neither in /usr/lib/rabbitmq/bin nor in PATH");

    private async Task ConfigureAsync()
    {
        var (amqp, management, distribution, names) = (FreePort.Next(), FreePort.Next(), FreePort.Next(), FreePort.Next());
        _endpoint = new RabbitMqEndpoint(new Uri($"amqp://guest:guest@127.0.0.1:{amqp}"), new Uri($"http://127.0.0.1:{management}"));

        Set("HOME", _folder.FullPath);
        Set("RABBITMQ_NODENAME", $"t{amqp}@localhost");
        Set("RABBITMQ_NODE_PORT", $"{amqp}");
        Set("RABBITMQ_DIST_PORT", $"{distribution}");
        Set("ERL_EPMD_PORT", $"{names}");
        Set("ERL_EPMD_ADDRESS", "127.0.0.1");
        Set("RABBITMQ_MNESIA_BASE", _folder.PathOf("data"));
        Set("RABBITMQ_LOG_BASE", _folder.PathOf("log"));
        Set("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        Set("RABBITMQ_ENABLED_PLUGINS_FILE", _folder.Write("enabled_plugins", "[rabbitmq_management].\n"));
        // Without the collector the management plug-in costs a broker nothing; it is there to create virtual hosts.
        Set("RABBITMQ_CONFIG_FILE", _folder.Write("rabbitmq.conf", $"""
            listeners.tcp.1 = 127.0.0.1:{amqp}
            management.tcp.ip = 127.0.0.1
            management.tcp.port = {management}
            management_agent.disable_metrics_collector = true
            loopback_users = none

            """));

        // An own epmd: the one that a node starts becomes a daemon, which nobody would end.
        _nameServer = _folder.Start(Command("epmd", "-port", $"{names}"));
        await _nameServer.WaitUntilListeningAsync(names, s_startLimit);
    }

    private async Task StartProcessAsync()
    {
        var command = Command("rabbitmq-server");
        // Makes the script exec the Erlang machine, so that the process started is the broker itself; it then leaves out -noinput.
        command.Environment["RABBITMQ_ALLOW_INPUT"] = "1";
        // +sbwt none: idle schedulers must not spin on a small machine.
        command.Environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] = "-noinput +sbwt none -kernel inet_dist_use_interface {127,0,0,1}";
        _process = _folder.Start(command, "completed with");
        await _process.WaitUntilReadyAsync(s_startLimit);
    }

    private void Set(string name, string value) => _environment[name] = value;

    private ProcessStartInfo Command(string program, params IEnumerable<string> arguments)
    {
        var file = program == "epmd" ? program : Path.Combine(_binaries, program);
        var command = _account.Command(file, arguments);
        foreach (var name in command.Environment.Keys.Where(name => name.StartsWith("RABBITMQ_", StringComparison.Ordinal) || name.StartsWith("ERL_", StringComparison.Ordinal)).ToList())
            command.Environment.Remove(name);
        foreach (var (name, value) in _environment)
            command.Environment[name] = value;
        command.WorkingDirectory = _folder.FullPath;
        return command;
    }
}
