using System.Diagnostics;
using Npgsql;
using OutboxBus.TestServers.Processes;

namespace OutboxBus.TestServers;

public sealed class PostgresServer : IAsyncDisposable
{
    private const int StartAttempts = 3;

    private static readonly TimeSpan s_startLimit = TimeSpan.FromSeconds(60);

    private readonly string _binaries;
    private readonly ServerAccount _account;
    private readonly ServerFolder _folder;
    private readonly string[] _settings;
    private ServerProcess? _process;
    private int _port;

    private PostgresServer(string binaries, ServerAccount account, ServerFolder folder, string[] settings)
    {
        _settings = settings;
        _binaries = binaries;
        _account = account;
        _folder = folder;
    }

    // Of the superuser, for the database postgres.
    public string ConnectionString => new NpgsqlConnectionStringBuilder
    {
        Host = "127.0.0.1",
        Port = _port,
        Username = "postgres",
        Database = "postgres",
        IncludeErrorDetail = true,
        // Every database of a run has its own pool; idle connections of finished test classes must not use up max_connections.
        ConnectionIdleLifetime = 10,
        ConnectionPruningInterval = 5,
    }.ConnectionString;

    public int Port => _port;

    // Of the postmaster, whose children the other processes are.
    public int ProcessId => _process!.Id;

    // Why a server here cannot be set to a language, such as "de_DE"; null: it can.
    public static string? CannotSpeak(string language)
    {
        if (Executables.InPath("localedef") is null || !File.Exists($"/usr/share/i18n/locales/{language}"))
            return $"localedef and the source of the locale {language} (Debian's package locales), of which the server would need the locale, are not installed";
        var catalogs = $"/usr/share/locale/{language.Split('_')[0]}/LC_MESSAGES";
        return Directory.Exists(catalogs) && Directory.GetFiles(catalogs, "postgres-*.mo").Length > 0
            ? null
            : $"PostgreSQL's messages for {language} are not installed";
    }

    // Languages that are not installed on this machine are compiled for this server alone: lc_messages may then be "de_DE.UTF-8".
    public static Task<PostgresServer> StartAsync(params string[] languages) => StartAsync([], languages);

    // With settings such as "shared_buffers=1GB".
    public static Task<PostgresServer> StartWithAsync(params string[] settings) => StartAsync(settings, []);

    private static async Task<PostgresServer> StartAsync(string[] settings, string[] languages)
    {
        var binaries = FindBinaries();
        var account = ServerAccount.Find("postgres");
        var server = new PostgresServer(binaries, account, await ServerFolder.CreateAsync(account, "postgres"), settings);
        try
        {
            foreach (var language in languages)
                await server.CompileAsync(language);
            await server.InitializeAsync();
            await server.StartOnFreePortAsync();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    public Task<string> CreateDatabaseAsync(string prefix) => CreateDatabaseAsync(ConnectionString, prefix);

    public async Task KillAsync()
    {
        if (_process is { } process)
            await process.KillAsync();
    }

    // A fast shutdown; the data stays for RestartAsync.
    public async Task StopAsync()
    {
        if (_process is { } process)
            await process.StopAsync(ServerProcess.Interrupt);
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
        _folder.Dispose();
    }

    internal static async Task<string> CreateDatabaseAsync(string server, string prefix)
    {
        var name = FreshName.From(prefix);
        // Without a pool: nothing stays connected to the server's own database.
        await using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(server) { Pooling = false }.ConnectionString);
        await connection.OpenAsync();
        // template0 takes no connections, so creation cannot fail because somebody uses the template.
        await using var create = new NpgsqlCommand($"""CREATE DATABASE "{name}" TEMPLATE template0""", connection);
        await create.ExecuteNonQueryAsync();
        return new NpgsqlConnectionStringBuilder(server) { Database = name }.ConnectionString;
    }

    private static string FindBinaries() =>
        Executables.FolderWith(
            ["postgres", "initdb"],
            [
                "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
                .. Executables.InPath("postgres") is { } folder ? [folder] : Array.Empty<string>(),
            ])
        ?? throw new ServerUnavailableException("postgres and initdb are neither in /usr/lib/postgresql/*/bin nor in PATH");

    private async Task InitializeAsync()
    {
        // Not synced to disk: tests kill processes, not the machine.
        var initdb = Command("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D", _folder.PathOf("data"));
        initdb.WorkingDirectory = _folder.FullPath;
        await ServerProcess.RunAsync(initdb);
    }

    private async Task CompileAsync(string language)
        => await ServerProcess.RunAsync(_account.Command("localedef", "-i", language, "-f", "UTF-8", _folder.PathOf($"{language}.UTF-8")));

    private async Task StartOnFreePortAsync()
    {
        for (var attempt = 1; ; attempt++)
        {
            _port = FreePort.Next();
            try
            {
                await StartProcessAsync();
                return;
            }
            catch (ServerUnavailableException) when (attempt < StartAttempts)
            {
                // Most likely another process took the port in the meantime.
            }
        }
    }

    private async Task StartProcessAsync()
    {
        string[] settings =
        [
            "listen_addresses=127.0.0.1", $"port={_port}", "unix_socket_directories=",
            "fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_connections=200", "logging_collector=off",
            .. _settings,
        ];
        _process = _folder.Start(
            Command("postgres", ["-D", _folder.PathOf("data"), .. settings.SelectMany(setting => new[] { "-c", setting })]),
            "ready to accept connections");
        await _process.WaitUntilReadyAsync(s_startLimit);
    }

    private ProcessStartInfo Command(string program, params IEnumerable<string> arguments)
    {
        var command = _account.Command(Path.Combine(_binaries, program), arguments);
        foreach (var name in command.Environment.Keys.Where(name => name.StartsWith("PG", StringComparison.Ordinal) || name == "LANG" || name.StartsWith("LC_", StringComparison.Ordinal)).ToList())
            command.Environment.Remove(name);
        // The line that says "ready" must not be translated.
        command.Environment["LC_ALL"] = "C";
        // Where compiled languages are.
        command.Environment["LOCPATH"] = _folder.FullPath;
        return command;
    }
}
