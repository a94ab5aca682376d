using System.Net;
using System.Net.Sockets;

namespace OutboxBus.TestServers.Processes;

internal static class FreePort
{
    // Below the ports that the operating system hands to outgoing connections (Linux from 32768, macOS from 49152):
    // while a killed server is down, a client that keeps reconnecting to a port in that range can be given the very same
    // port as its own, connect to itself, and keep the server from coming back.
    private const int First = 20_000;
    private const int Last = 32_000;

    public static int Next()
    {
        while (true)
        {
            var port = Random.Shared.Next(First, Last);
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.Bind(new IPEndPoint(IPAddress.Loopback, port));
                return port;
            }
            catch (SocketException)
            {
                // In use: try another one.
            }
        }
    }
}
