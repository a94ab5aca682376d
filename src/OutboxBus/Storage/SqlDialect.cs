using System.Data.Common;

namespace OutboxBus.Storage;

/// <summary>
/// What one database engine's SQL looks like: statements with their parameters, and what its errors mean. A dialect
/// never opens, loops, retries or logs; the core decides when a statement runs.
/// </summary>
/// <remarks>Each method sets the command's text and adds its parameters. Time in SQL is the database's clock.</remarks>
public abstract class SqlDialect
{
    /// <summary>The name of the first column that <see cref="AppendInsert"/> returns: no column of the application's has it.</summary>
    public const string InsertedId = "outboxbus_inserted_id";

    /// <summary>The engine's name for people.</summary>
    public abstract string Engine { get; }

    /// <summary>The name of the EF Core provider this dialect works with.</summary>
    public abstract string EntityFrameworkProvider { get; }

    /// <summary>
    /// Whether the whole database has one writer at a time, and a second one blocks its thread: consumers then take turns
    /// before they begin.
    /// </summary>
    public virtual bool HasSingleWriter => false;

    /// <summary>A statement without effect or result that fails when the connection or its transaction is dead.</summary>
    public virtual string ProbeStatement => "select 1";

    /// <summary>Reads no row of each table, naming every column: fails when a table or column is missing.</summary>
    public abstract void CheckSchema(DbCommand command);

    /// <summary>
    /// Whether <see cref="AppendInsert"/> can travel with the statements of a <c>SaveChanges</c>, which costs less than letting EF
    /// Core track, compare and insert every envelope. The statements of one command must take effect together or not at all.
    /// </summary>
    public virtual bool CanAppendInsert => false;

    /// <summary>
    /// Appends to the command's text and parameters, rather than setting them, a statement that inserts envelopes and returns
    /// <see cref="InsertedId"/>, <c>visible_at</c>, <c>created_at</c> of each in their order. Either all have a
    /// <see cref="Envelope.VisibleAt"/>, or none, and the column's default is used. Called only if <see cref="CanAppendInsert"/>.
    /// </summary>
    public virtual void AppendInsert(DbCommand command, IReadOnlyList<Envelope> envelopes)
        => throw new NotSupportedException($"{Engine} inserts no envelopes by a statement of its own.");

    /// <summary>
    /// Takes due rows, oldest first, moves <c>visible_at</c> by the lease, counts the claim and returns the rows with the
    /// columns of <see cref="EnvelopeReader"/>. Rows that others hold are skipped.
    /// </summary>
    /// <param name="command">The command.</param>
    /// <param name="bus">The bus whose rows are taken.</param>
    /// <param name="limit">How many at most.</param>
    /// <param name="lease">For how long.</param>
    /// <param name="within">
    /// Looks only at rows that have become claimable within this time; null: at all. A hint: an engine in which deleted rows
    /// cost nothing looks at all.
    /// </param>
    public abstract void Claim(DbCommand command, string bus, int limit, TimeSpan lease, TimeSpan? within);

    /// <summary>Returns <c>id, message_id, visible_at</c> of those envelopes that are committed, without waiting for anybody's lock.</summary>
    public abstract void Verify(DbCommand command, IReadOnlyList<Envelope> envelopes);

    /// <summary>Deletes confirmed envelopes by <c>(id, message_id)</c>: the pair protects against ids issued again after a failover.</summary>
    public abstract void Complete(DbCommand command, IReadOnlyList<Envelope> envelopes);

    /// <summary>Writes back delay, counters and error of envelopes, each only where its row is still under the lease it was sent under.</summary>
    public abstract void Reschedule(DbCommand command, IReadOnlyList<Rescheduling> reschedulings);

    /// <summary>Sets one envelope's number of claims and leaves its lease as it is, only where its row is still under the lease it was claimed under.</summary>
    public abstract void SetClaimCount(DbCommand command, Envelope envelope, int claimCount);

    /// <summary>Moves one envelope to the dead letters, only where its row is still under the lease it was sent under. Runs in a transaction.</summary>
    public abstract void Bury(DbCommand command, Burial burial);

    /// <summary>Deletes the envelopes that were scheduled with one of the tokens. Runs in the transaction of whoever takes them back.</summary>
    public abstract void CancelScheduled(DbCommand command, string bus, IReadOnlyList<Guid> tokens);

    /// <summary>Inserts the inbox record; affects no row when there is one already; waits for a concurrent copy's transaction to end.</summary>
    public abstract void RecordConsumed(DbCommand command, InboxKey key);

    /// <summary>
    /// Inserts the inbox records of a batch, in the order given, and returns <c>message_id, consumer, generation</c> of those
    /// that were not there; waits for concurrent copies like the other.
    /// </summary>
    public abstract void RecordBatchConsumed(DbCommand command, IReadOnlyList<InboxKey> keys);

    /// <summary>Returns a row when the inbox record exists.</summary>
    public abstract void FindConsumed(DbCommand command, InboxKey key);

    /// <summary>Deletes the inbox records of a message in all generations; those of one consumer, or, if that is null, of all.</summary>
    public abstract void ForgetConsumed(DbCommand command, Guid messageId, string? consumer);

    /// <summary>Deletes at most <paramref name="limit"/> inbox records past retention.</summary>
    public abstract void PurgeInbox(DbCommand command, TimeSpan retention, int limit);

    /// <summary>
    /// Returns one row: the number of due rows, counted up to <paramref name="countLimit"/>; the age of the oldest in
    /// seconds, null if none; the number of dead letters, counted likewise.
    /// </summary>
    public abstract void Status(DbCommand command, string bus, int countLimit);

    /// <summary>The script that creates the tables, for those who do not use EF migrations; may be run again without harm.</summary>
    /// <param name="freshRowLease">How long a row just inserted is left to the process that inserted it.</param>
    public abstract string CreateScript(TimeSpan freshRowLease);

    /// <summary>What an error means, by its code, never by its text.</summary>
    public abstract DatabaseError Classify(Exception exception);

    /// <summary>Reads a UTC time.</summary>
    public virtual DateTime ReadTime(DbDataReader reader, int ordinal)
    {
        ArgumentNullException.ThrowIfNull(reader);
        return reader.GetDateTime(ordinal);
    }

    /// <summary>Quotes an identifier in the ANSI way.</summary>
    protected static string Quote(string identifier)
    {
        ArgumentNullException.ThrowIfNull(identifier);
        return $"\"{identifier.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}

/// <summary>What a database error means to the core.</summary>
public enum DatabaseError
{
    /// <summary>Nothing the core treats specially.</summary>
    Other,

    /// <summary>A table or column does not exist.</summary>
    MissingSchema,

    /// <summary>The server or file cannot be reached, or ended the connection.</summary>
    Unavailable,

    /// <summary>A lock was not granted in time, or a deadlock or a serialization conflict ended the transaction.</summary>
    Contention,
}

/// <summary>The identity of a consumption.</summary>
/// <param name="MessageId">The message's id.</param>
/// <param name="Consumer">The endpoint and the consumer's stable name.</param>
/// <param name="Generation">0 unless the message was redelivered deliberately.</param>
public readonly record struct InboxKey(Guid MessageId, string Consumer, int Generation = 0);

/// <summary>An envelope to be tried again.</summary>
/// <param name="Envelope">The envelope, with the <see cref="Envelope.VisibleAt"/> read back from the database: the fence.</param>
/// <param name="Delay">How long to wait, from the database's present.</param>
/// <param name="Attempts">The new number of refusals.</param>
/// <param name="ClaimCount">The new number of claims without an outcome.</param>
/// <param name="Error">Why; null keeps the last error.</param>
public sealed record Rescheduling(Envelope Envelope, TimeSpan Delay, int Attempts, int ClaimCount, string? Error);

/// <summary>An envelope to be given up.</summary>
/// <param name="Envelope">The envelope, with the <see cref="Envelope.VisibleAt"/> read back from the database: the fence.</param>
/// <param name="Reason">Why delivery gives up.</param>
/// <param name="Attempts">The final number of refusals.</param>
/// <param name="Error">The last error; null: none.</param>
public sealed record Burial(Envelope Envelope, DeadLetterReason Reason, int Attempts, string? Error);
