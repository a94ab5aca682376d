using System.Data.Common;

namespace OutboxBus.Storage;

/// <summary>The columns of an envelope in the order in which every dialect returns them, and how they are read.</summary>
public static class EnvelopeReader
{
    /// <summary>The columns, comma separated.</summary>
    public const string Columns =
        "id, kind, bus, visible_at, due_at, attempts, claim_count, lane, ordering_key, seq, message_id, destination, message_type, content_type, headers, properties, body, created_at, expires_at, schedule_token, last_error";

    /// <summary>The columns that a dead letter takes over as they are, comma separated, in the order of both tables.</summary>
    public const string KeptColumns =
        "kind, bus, due_at, claim_count, lane, ordering_key, seq, message_id, destination, message_type, content_type, headers, properties, body, created_at, expires_at, schedule_token";

    /// <summary>
    /// Reads a row. One that cannot be read comes back with its keys and without content, so that it is buried as corrupt
    /// and holds up nobody; null if not even the keys can be read.
    /// </summary>
    internal static Envelope? Read(DbDataReader reader, SqlDialect dialect)
    {
        try
        {
            return ReadAll(reader, dialect);
        }
        catch (Exception exception) when (IsAboutTheRow(exception))
        {
            return ReadKeys(reader, dialect);
        }
    }

    private static Envelope? ReadKeys(DbDataReader reader, SqlDialect dialect)
    {
        try
        {
            return new Envelope { Id = reader.GetInt64(0), VisibleAt = dialect.ReadTime(reader, 3), MessageId = reader.GetGuid(10) };
        }
        catch (Exception exception) when (IsAboutTheRow(exception))
        {
            return null;
        }
    }

    private static bool IsAboutTheRow(Exception exception) => exception is InvalidCastException or FormatException or OverflowException or ArgumentException;

    private static Envelope ReadAll(DbDataReader reader, SqlDialect dialect) => new()
    {
        Id = reader.GetInt64(0),
        Kind = reader.GetInt16(1),
        Bus = reader.GetString(2),
        VisibleAt = dialect.ReadTime(reader, 3),
        DueAt = reader.IsDBNull(4) ? null : dialect.ReadTime(reader, 4),
        Attempts = reader.GetInt32(5),
        ClaimCount = reader.GetInt32(6),
        Lane = reader.IsDBNull(7) ? null : reader.GetInt16(7),
        OrderingKey = reader.IsDBNull(8) ? null : reader.GetString(8),
        Seq = reader.GetInt32(9),
        MessageId = reader.GetGuid(10),
        Destination = reader.IsDBNull(11) ? null : reader.GetString(11),
        MessageType = reader.GetString(12),
        ContentType = reader.GetString(13),
        Headers = reader.IsDBNull(14) ? null : reader.GetString(14),
        Properties = reader.IsDBNull(15) ? null : reader.GetString(15),
        Body = reader.GetFieldValue<byte[]>(16),
        CreatedAt = dialect.ReadTime(reader, 17),
        ExpiresAt = reader.IsDBNull(18) ? null : dialect.ReadTime(reader, 18),
        ScheduleToken = reader.IsDBNull(19) ? null : reader.GetGuid(19),
        LastError = reader.IsDBNull(20) ? null : reader.GetString(20),
    };
}
