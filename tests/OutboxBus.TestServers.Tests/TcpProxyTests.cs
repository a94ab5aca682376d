using System.Net;
using System.Net.Sockets;
using FluentAssertions;
using Xunit;

namespace OutboxBus.TestServers.Tests;

public sealed class TcpProxyTests : IAsyncLifetime
{
    private readonly TcpListener _server = new(IPAddress.Loopback, 0);
    private TcpProxy _proxy = null!;

    public Task InitializeAsync()
    {
        _server.Start();
        _proxy = new TcpProxy("127.0.0.1", ((IPEndPoint)_server.LocalEndpoint).Port);
        return Task.CompletedTask;
    }

    public async Task DisposeAsync()
    {
        await _proxy.DisposeAsync();
        _server.Dispose();
    }

    [Fact]
    public async Task Bytes_pass_and_are_counted_and_the_end_is_passed_on()
    {
        var (client, server) = await ConnectAsync();
        await client.SendAsync(new byte[3]);
        await ReceiveAsync(server, 3);
        await server.SendAsync(new byte[5]);
        server.Shutdown(SocketShutdown.Send);

        await ReceiveAsync(client, 5);
        (await client.ReceiveAsync(new byte[1])).Should().Be(0);

        (_proxy.BytesToServer, _proxy.BytesToClient, _proxy.Connections).Should().Be((3L, 5L, 1));
    }

    [Fact]
    public async Task Cut_resets_both_sides_and_new_connections_work()
    {
        var (client, server) = await ConnectAsync();

        _proxy.Cut();

        await FluentActions.Awaiting(() => client.ReceiveAsync(new byte[1])).Should().ThrowAsync<SocketException>();
        await FluentActions.Awaiting(() => server.ReceiveAsync(new byte[1])).Should().ThrowAsync<SocketException>();
        await ConnectAsync();
    }

    [Fact]
    public async Task Refuse_closes_new_connections_only()
    {
        var (client, server) = await ConnectAsync();

        _proxy.Refuse = true;

        using var refused = new Socket(SocketType.Stream, ProtocolType.Tcp);
        var attempt = async () =>
        {
            await refused.ConnectAsync(IPAddress.Loopback, _proxy.Port);
            if (await refused.ReceiveAsync(new byte[1]) == 0)
                throw new SocketException((int)SocketError.ConnectionReset);
        };
        await attempt.Should().ThrowAsync<SocketException>();
        await client.SendAsync(new byte[1]);
        await ReceiveAsync(server, 1);
    }

    [Fact]
    public async Task Freeze_holds_bytes_until_thaw()
    {
        var (client, server) = await ConnectAsync();
        _proxy.Freeze();
        await client.SendAsync(new byte[4]);

        server.Poll(TimeSpan.FromMilliseconds(200), SelectMode.SelectRead).Should().BeFalse();
        _proxy.Thaw();

        await ReceiveAsync(server, 4);
    }

    [Fact]
    public async Task A_lost_request_does_not_arrive_and_closes_its_connection_alone()
    {
        var (client, server) = await ConnectAsync();
        var (other, otherServer) = await ConnectAsync();
        _proxy.LoseNext("COMMIT", Loss.Request);

        await client.SendAsync("say COMMIT"u8.ToArray());

        await FluentActions.Awaiting(() => server.ReceiveAsync(new byte[1])).Should().ThrowAsync<SocketException>();
        await FluentActions.Awaiting(() => client.ReceiveAsync(new byte[1])).Should().ThrowAsync<SocketException>();
        await other.SendAsync("COMMIT"u8.ToArray());
        await ReceiveAsync(otherServer, 6);
        _proxy.Lost.Should().Be(1);
    }

    [Fact]
    public async Task A_lost_answer_leaves_the_request_with_the_server()
    {
        var (client, server) = await ConnectAsync();
        _proxy.LoseNext("COMMIT", Loss.Answer);

        await client.SendAsync("COMMIT"u8.ToArray());
        await ReceiveAsync(server, 6);
        await server.SendAsync(new byte[1]);

        await FluentActions.Awaiting(() => client.ReceiveAsync(new byte[1])).Should().ThrowAsync<SocketException>();
        _proxy.Lost.Should().Be(1);
    }

    private async Task<(Socket Client, Socket Server)> ConnectAsync()
    {
        var client = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await client.ConnectAsync(IPAddress.Loopback, _proxy.Port);
        return (client, await _server.AcceptSocketAsync());
    }

    private static async Task ReceiveAsync(Socket socket, int count)
    {
        for (var received = 0; received < count;)
        {
            var now = await socket.ReceiveAsync(new byte[count - received]);
            now.Should().BePositive();
            received += now;
        }
    }
}
