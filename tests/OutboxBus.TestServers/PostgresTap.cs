using System.Buffers.Binary;
using Npgsql;

namespace OutboxBus.TestServers;

// Stands between PostgreSQL's clients and the server and counts what they cost: statements, and the round trips that a client waited for.
public sealed class PostgresTap : IAsyncDisposable
{
    private readonly TcpProxy _proxy;
    private long _roundTrips;
    private long _statements;

    public PostgresTap(string connectionString)
    {
        var server = new NpgsqlConnectionStringBuilder(connectionString);
        _proxy = new TcpProxy(server.Host!, server.Port, () => new Conversation(this).Watch);
        // What is encrypted cannot be counted.
        ConnectionString = new NpgsqlConnectionStringBuilder(connectionString)
        {
            Host = "127.0.0.1",
            Port = _proxy.Port,
            SslMode = SslMode.Disable,
            GssEncryptionMode = GssEncryptionMode.Disable,
        }.ConnectionString;
    }

    // To the same database, through the tap.
    public string ConnectionString { get; }

    // One ends when the server is ready and the client has nothing half said. A statement that travels with the next one, as Npgsql's
    // BEGIN does, costs none; counting ReadyForQuery alone would count it.
    public long RoundTrips => Interlocked.Read(ref _roundTrips);

    // Completed ones, BEGIN and COMMIT included.
    public long Statements => Interlocked.Read(ref _statements);

    public ValueTask DisposeAsync() => _proxy.DisposeAsync();

    // One connection. Each Query and each Sync, and the start-up message, is answered by one ReadyForQuery (PostgreSQL documentation,
    // "Message Flow").
    private sealed class Conversation
    {
        private readonly Lock _lock = new();
        private readonly PostgresTap _tap;
        private readonly MessageStream _fromClient;
        private readonly MessageStream _fromServer;
        private int _unanswered;
        private bool _syncIsToCome;

        public Conversation(PostgresTap tap)
        {
            _tap = tap;
            _fromClient = new MessageStream(Said, firstHasNoType: true);
            _fromServer = new MessageStream(Answered, firstHasNoType: false);
            Watch = new ConnectionWatch(bytes => Read(_fromClient, bytes), bytes => Read(_fromServer, bytes));
        }

        public ConnectionWatch Watch { get; }

        private void Read(MessageStream stream, ReadOnlyMemory<byte> bytes)
        {
            lock (_lock)
                stream.Read(bytes.Span);
        }

        private void Said(char type)
        {
            // Parse, Bind, Describe, Execute, Close, Flush.
            _syncIsToCome = type is 'P' or 'B' or 'D' or 'E' or 'C' or 'H';
            if (type is MessageStream.NoType or 'Q' or 'S')
                _unanswered++;
        }

        private void Answered(char type)
        {
            if (type == 'C')
                Interlocked.Increment(ref _tap._statements);
            if (type == 'Z' && --_unanswered == 0 && !_syncIsToCome && _fromClient.IsBetweenMessages)
                Interlocked.Increment(ref _tap._roundTrips);
        }
    }

    // Cuts one direction into messages: a type, and a length that includes itself but not the type.
    private sealed class MessageStream(Action<char> read, bool firstHasNoType)
    {
        public const char NoType = '\0';

        private readonly byte[] _head = new byte[5];
        private int _headLength = firstHasNoType ? 1 : 0;
        private int _bodyLeft;

        public bool IsBetweenMessages => _headLength == 0;

        public void Read(ReadOnlySpan<byte> bytes)
        {
            while (bytes.Length > 0)
            {
                if (_headLength < _head.Length)
                {
                    var ofHead = Math.Min(_head.Length - _headLength, bytes.Length);
                    bytes[..ofHead].CopyTo(_head.AsSpan(_headLength));
                    bytes = bytes[ofHead..];
                    _headLength += ofHead;
                    if (_headLength < _head.Length)
                        return;
                    _bodyLeft = BinaryPrimitives.ReadInt32BigEndian(_head.AsSpan(1)) - sizeof(int);
                }

                var ofBody = Math.Min(_bodyLeft, bytes.Length);
                bytes = bytes[ofBody..];
                _bodyLeft -= ofBody;
                if (_bodyLeft > 0)
                    return;
                _headLength = 0;
                read((char)_head[0]);
            }
        }
    }
}
