using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OutboxBus.TestServers;

// Stands between a client and a server and breaks the connection on demand.
public sealed class TcpProxy : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentDictionary<Socket, byte> _sockets = new();
    private readonly string _host;
    private readonly int _port;
    private readonly Func<ConnectionWatch>? _watch;
    private readonly Task _accepting;
    private volatile TaskCompletionSource _flowing = Open();
    private volatile bool _refuse;
    private Trap? _trap;
    private int _lost;
    private long _bytesToServer;
    private long _bytesToClient;
    private int _connections;

    // watch: makes, for each connection, who sees its bytes before they are passed on.
    public TcpProxy(string host, int port, Func<ConnectionWatch>? watch = null)
    {
        (_host, _port, _watch) = (host, port, watch);
        _listener.Start();
        Port = ((IPEndPoint)_listener.LocalEndpoint).Port;
        _accepting = AcceptAsync();
    }

    public int Port { get; }

    // Accepts new connections and closes them at once. Open connections go on.
    public bool Refuse { get => _refuse; set => _refuse = value; }

    public long BytesToServer => Interlocked.Read(ref _bytesToServer);

    public long BytesToClient => Interlocked.Read(ref _bytesToClient);

    // Forwarded so far, closed ones included.
    public int Connections => Volatile.Read(ref _connections);

    // Closes all connections with a reset, as a dying peer does.
    public void Cut()
    {
        foreach (var socket in _sockets.Keys)
            Reset(socket);
    }

    // How often a connection was closed by LoseNext.
    public int Lost => Volatile.Read(ref _lost);

    // Once: closes the connection on which the next bytes with this text go to the server, before they arrive or when the answer to them would.
    public void LoseNext(string text, Loss loss) => Volatile.Write(ref _trap, new Trap(Encoding.ASCII.GetBytes(text), loss));

    // Connections stay open, also new ones, but nothing passes in either direction.
    public void Freeze()
    {
        if (_flowing.Task.IsCompleted)
            _flowing = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    public void Thaw() => _flowing.TrySetResult();

    public async ValueTask DisposeAsync()
    {
        _listener.Dispose();
        Refuse = true;
        Cut();
        Thaw();
        await _accepting;
    }

    private static TaskCompletionSource Open()
    {
        var source = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        source.SetResult();
        return source;
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var client = await _listener.AcceptSocketAsync();
                if (Refuse)
                    Reset(client);
                else
                    _ = ForwardAsync(client);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The listener was closed.
        }
    }

    private async Task ForwardAsync(Socket client)
    {
        var server = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        client.NoDelay = true;
        _sockets[client] = _sockets[server] = 0;
        try
        {
            await server.ConnectAsync(_host, _port);
            Interlocked.Increment(ref _connections);
            var watch = _watch?.Invoke();
            var answerIsLost = false;
            await Task.WhenAll(
                PumpAsync(client, server, bytes =>
                {
                    Interlocked.Add(ref _bytesToServer, bytes.Length);
                    watch?.ToServer(bytes);
                    if (Sprung(bytes.Span) is not { } loss)
                        return true;
                    Volatile.Write(ref answerIsLost, true);
                    return loss == Loss.Answer;
                }),
                PumpAsync(server, client, bytes =>
                {
                    Interlocked.Add(ref _bytesToClient, bytes.Length);
                    watch?.ToClient(bytes);
                    return !Volatile.Read(ref answerIsLost);
                }));
            Forget(client).Dispose();
            Forget(server).Dispose();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            Reset(client);
            Reset(server);
        }
    }

    private Loss? Sprung(ReadOnlySpan<byte> bytes)
    {
        var trap = Volatile.Read(ref _trap);
        if (trap is null || bytes.IndexOf(trap.Text) < 0 || Interlocked.CompareExchange(ref _trap, null, trap) != trap)
            return null;
        Interlocked.Increment(ref _lost);
        return trap.Loss;
    }

    // What is passed on tells whether the bytes may go on.
    private async Task PumpAsync(Socket from, Socket to, Func<ReadOnlyMemory<byte>, bool> pass)
    {
        var buffer = new byte[16 * 1024];
        try
        {
            while (true)
            {
                var received = await from.ReceiveAsync(buffer);
                await _flowing.Task;
                if (received == 0)
                    break;
                if (!pass(buffer.AsMemory(0, received)))
                    throw new SocketException((int)SocketError.ConnectionReset);
                for (var sent = 0; sent < received;)
                    sent += await to.SendAsync(buffer.AsMemory(sent, received - sent));
            }

            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Wakes the other direction, which may be waiting for bytes that will not come.
            Reset(from);
            Reset(to);
        }
    }

    private Socket Forget(Socket socket)
    {
        _sockets.TryRemove(socket, out _);
        return socket;
    }

    private void Reset(Socket socket) => Forget(socket).Close(timeout: 0);

    private sealed record Trap(byte[] Text, Loss Loss);
}

public enum Loss
{
    // The server never sees the bytes.
    Request,

    // The server has acted on the bytes; the client does not hear of it.
    Answer,
}

// Sees one connection's bytes, each direction in its order; the two directions call at the same time.
public sealed record ConnectionWatch(Action<ReadOnlyMemory<byte>> ToServer, Action<ReadOnlyMemory<byte>> ToClient);
