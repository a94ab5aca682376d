using Xunit;

namespace OutboxBus.TestServers.Finding;

internal sealed class ServerSearch<TServer>
{
    private readonly string _server;
    private readonly bool _required;
    private readonly IReadOnlyList<ServerSource<TServer>> _sources;
    private readonly Lazy<Task<Outcome>> _outcome;

    // require: the value of OUTBOXBUS_REQUIRE.
    public ServerSearch(string server, string? require, params IReadOnlyList<ServerSource<TServer>> sources)
    {
        _server = server;
        _sources = sources;
        _required = (require ?? "").Split(',', StringSplitOptions.TrimEntries).Contains(server, StringComparer.OrdinalIgnoreCase);
        // On the pool: xunit's synchronisation context must not be needed to finish what several test classes wait for.
        _outcome = new Lazy<Task<Outcome>>(() => Task.Run(SearchAsync));
    }

    // Null, with the reason, when there is none.
    public async Task<(TServer? Server, string Reason)> TryFindAsync()
    {
        var outcome = await _outcome.Value;
        return (outcome.Server, outcome.Reason);
    }

    public async Task<TServer> FindAsync()
    {
        var (server, reason) = await TryFindAsync();
        if (server is not null)
            return server;
        if (_required)
            throw new InvalidOperationException($"{reason}\nIt is a failure because OUTBOXBUS_REQUIRE names {_server}.");
        Skip.If(true, reason);
        throw new InvalidOperationException(reason);
    }

    private async Task<Outcome> SearchAsync()
    {
        var reason = $"No {_server} server.";
        foreach (var source in _sources)
        {
            try
            {
                return new Outcome(await source.Open(), "");
            }
#pragma warning disable CA1031 // Whatever keeps one source from working, the next one may work; nothing is hidden, the reason is reported.
            catch (Exception e)
#pragma warning restore CA1031
            {
                reason += $" {source.Name}: {e.Message.TrimEnd('.', '\n')}.";
            }
        }

        return new Outcome(default, reason);
    }

    private sealed record Outcome(TServer? Server, string Reason);
}
