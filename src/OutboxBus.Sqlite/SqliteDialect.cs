using System.Data.Common;
using System.Globalization;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using OutboxBus.Storage;

namespace OutboxBus.Sqlite;

/// <summary>
/// SQLite's statements. Times are milliseconds since 1970, the finest its clock gives; lists travel as JSON, as there
/// are no array parameters. One writer at a time makes lock hints needless.
/// </summary>
public sealed class SqliteDialect : SqlDialect
{
    private const string Now = "cast(unixepoch('subsec') * 1000 as integer)";

    // Result codes: sqlite.org/rescode.html.
    private const int Error = 1;
    private const int Busy = 5;
    private const int Locked = 6;
    private const int ReadOnly = 8;
    private const int InputOutput = 10;
    private const int Full = 13;
    private const int CannotOpen = 14;

    private readonly OutboxTables _names;
    private readonly string _outbox;
    private readonly string _deadLetter;
    private readonly string _inbox;

    /// <summary>Creates the dialect for the tables named; SQLite has no schemas, so that name is ignored.</summary>
    /// <exception cref="OutboxBusException">A name is no usable identifier.</exception>
    public SqliteDialect(OutboxTables tables)
    {
        ArgumentNullException.ThrowIfNull(tables);
        tables.Validate();
        _names = tables;
        _outbox = Quote(tables.Outbox);
        _deadLetter = Quote(tables.DeadLetter);
        _inbox = Quote(tables.Inbox);
    }

    /// <inheritdoc />
    public override string Engine => "SQLite";

    /// <inheritdoc />
    public override string EntityFrameworkProvider => "Microsoft.EntityFrameworkCore.Sqlite";

    /// <inheritdoc />
    public override bool HasSingleWriter => true;

    /// <inheritdoc />
    public override void CheckSchema(DbCommand command)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            select {EnvelopeReader.Columns} from {_outbox} where false;
            select outbox_id, attempts, {EnvelopeReader.KeptColumns}, failed_at, reason, error from {_deadLetter} where false;
            select message_id, consumer, generation, consumed_at from {_inbox} where false
            """;
    }

    /// <inheritdoc />
    public override void Claim(DbCommand command, string bus, int limit, TimeSpan lease, TimeSpan? within)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            update {_outbox}
            set visible_at = {Now} + @lease, claim_count = claim_count + 1
            where id in (
                select id from {_outbox}
                where bus = @bus and visible_at <= {Now} and kind = 0 and lane is null
                order by visible_at, id
                limit @limit)
            returning {EnvelopeReader.Columns}
            """;
        Add(command, "bus", bus);
        Add(command, "limit", limit);
        Add(command, "lease", Milliseconds(lease));
    }

    /// <inheritdoc />
    public override void Verify(DbCommand command, IReadOnlyList<Envelope> envelopes)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"select id, message_id, visible_at from {_outbox} where id in (select value from json_each(@ids))";
        Add(command, "ids", JsonSerializer.Serialize(envelopes.Select(envelope => envelope.Id)));
    }

    /// <inheritdoc />
    public override void Complete(DbCommand command, IReadOnlyList<Envelope> envelopes)
    {
        ArgumentNullException.ThrowIfNull(command);
        // nocase, here and below: an id that another tool has written in small letters is read like any other.
        command.CommandText = $"""
            delete from {_outbox}
            where (id, message_id collate nocase) in (select value ->> 0, value ->> 1 from json_each(@sent))
            """;
        Add(command, "sent", JsonSerializer.Serialize(envelopes.Select(envelope => new object[] { envelope.Id, Text(envelope.MessageId) })));
    }

    /// <inheritdoc />
    public override void Reschedule(DbCommand command, IReadOnlyList<Rescheduling> reschedulings)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            update {_outbox} as message
            set visible_at = {Now} + later.delay,
                attempts = later.attempts,
                claim_count = later.claim_count,
                last_error = coalesce(later.error, message.last_error)
            from (
                select value ->> 0 as id, value ->> 1 as message_id, value ->> 2 as fence, value ->> 3 as delay,
                    value ->> 4 as attempts, value ->> 5 as claim_count, value ->> 6 as error
                from json_each(@later)) as later
            where message.id = later.id and message.message_id = later.message_id collate nocase and message.visible_at = later.fence
            """;
        Add(command, "later", JsonSerializer.Serialize(reschedulings.Select(later => new object?[]
        {
            later.Envelope.Id,
            Text(later.Envelope.MessageId),
            Milliseconds(later.Envelope.VisibleAt),
            Milliseconds(later.Delay),
            later.Attempts,
            later.ClaimCount,
            later.Error,
        })));
    }

    /// <inheritdoc />
    public override void SetClaimCount(DbCommand command, Envelope envelope, int claimCount)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(envelope);
        command.CommandText = $"update {_outbox} set claim_count = @claim_count where id = @id and message_id = @message_id collate nocase and visible_at = @fence";
        Add(command, "claim_count", claimCount);
        Add(command, "id", envelope.Id);
        Add(command, "message_id", Text(envelope.MessageId));
        Add(command, "fence", Milliseconds(envelope.VisibleAt));
    }

    /// <inheritdoc />
    public override void Bury(DbCommand command, Burial burial)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(burial);
        command.CommandText = $"""
            insert into {_deadLetter}
                (outbox_id, attempts, {EnvelopeReader.KeptColumns}, reason, error)
            select id, @attempts, {EnvelopeReader.KeptColumns}, @reason, coalesce(@error, last_error)
            from {_outbox}
            where id = @id and message_id = @message_id collate nocase and visible_at = @fence;
            delete from {_outbox} where id = @id and message_id = @message_id collate nocase and visible_at = @fence
            """;
        Add(command, "id", burial.Envelope.Id);
        Add(command, "message_id", Text(burial.Envelope.MessageId));
        Add(command, "fence", Milliseconds(burial.Envelope.VisibleAt));
        Add(command, "attempts", burial.Attempts);
        Add(command, "reason", burial.Reason.ToString());
        Add(command, "error", (object?)burial.Error ?? DBNull.Value);
    }

    /// <inheritdoc />
    public override void CancelScheduled(DbCommand command, string bus, IReadOnlyList<Guid> tokens)
    {
        ArgumentNullException.ThrowIfNull(command);
        // Not collate nocase: the index on the tokens would not be used.
        command.CommandText = $"delete from {_outbox} where schedule_token in (select value from json_each(@tokens)) and bus = @bus and kind = 0";
        Add(command, "tokens", JsonSerializer.Serialize(tokens.Select(Text)));
        Add(command, "bus", bus);
    }

    /// <inheritdoc />
    public override void RecordConsumed(DbCommand command, InboxKey key)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"insert into {_inbox} (message_id, consumer, generation) values (@message_id, @consumer, @generation) on conflict do nothing";
        AddKey(command, key);
    }

    /// <inheritdoc />
    public override void RecordBatchConsumed(DbCommand command, IReadOnlyList<InboxKey> keys)
    {
        ArgumentNullException.ThrowIfNull(command);
        // "where true": without it the parser takes "on" for the condition of a join.
        command.CommandText = $"""
            insert into {_inbox} (message_id, consumer, generation)
            select value ->> 0, value ->> 1, value ->> 2 from json_each(@keys) where true
            on conflict do nothing
            returning message_id, consumer, generation
            """;
        Add(command, "keys", JsonSerializer.Serialize(keys.Select(key => new object[] { Text(key.MessageId), key.Consumer, key.Generation })));
    }

    /// <inheritdoc />
    public override void FindConsumed(DbCommand command, InboxKey key)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"select 1 from {_inbox} where message_id = @message_id and consumer = @consumer and generation = @generation";
        AddKey(command, key);
    }

    /// <inheritdoc />
    public override void ForgetConsumed(DbCommand command, Guid messageId, string? consumer)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"delete from {_inbox} where message_id = @message_id and consumer = coalesce(@consumer, consumer)";
        Add(command, "message_id", Text(messageId));
        Add(command, "consumer", (object?)consumer ?? DBNull.Value);
    }

    /// <inheritdoc />
    public override void PurgeInbox(DbCommand command, TimeSpan retention, int limit)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            delete from {_inbox}
            where rowid in (select rowid from {_inbox} where consumed_at < {Now} - @retention order by consumed_at limit @limit)
            """;
        Add(command, "retention", Milliseconds(retention));
        Add(command, "limit", limit);
    }

    /// <inheritdoc />
    public override void Status(DbCommand command, string bus, int countLimit)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            select
                (select count(*) from (
                    select 1 from {_outbox} where bus = @bus and visible_at <= {Now} and kind = 0 and lane is null limit @limit)),
                (select ({Now} - max(created_at, coalesce(due_at, created_at))) / 1000.0 from {_outbox}
                    where bus = @bus and visible_at <= {Now} and kind = 0 and lane is null
                    order by visible_at, id limit 1),
                (select count(*) from (select 1 from {_deadLetter} where bus = @bus limit @limit))
            """;
        Add(command, "bus", bus);
        Add(command, "limit", countLimit);
    }

    /// <inheritdoc />
    public override string CreateScript(TimeSpan freshRowLease) => $"""
        create table if not exists {_outbox} (
            id integer not null constraint {Quote($"PK_{_names.Outbox}")} primary key autoincrement,
            kind integer not null default 0,
            bus text not null,
            visible_at integer not null default ({Now} + {(long)freshRowLease.TotalMilliseconds}),
            due_at integer null,
            attempts integer not null default 0,
            claim_count integer not null default 0,
            lane integer null,
            ordering_key text null,
            seq integer not null default 0,
            message_id text not null,
            destination text null,
            message_type text not null,
            content_type text not null,
            headers text null,
            properties text null,
            body blob not null,
            created_at integer not null default ({Now}),
            expires_at integer null,
            schedule_token text null,
            last_error text null
        );

        create index if not exists {Quote($"ix_{_names.Outbox}_visible")} on {_outbox} (bus, visible_at, id) where lane is null;
        create index if not exists {Quote($"ix_{_names.Outbox}_lane")} on {_outbox} (lane, id) where lane is not null;
        create index if not exists {Quote($"ix_{_names.Outbox}_schedule_token")} on {_outbox} (schedule_token) where schedule_token is not null;

        create table if not exists {_deadLetter} (
            id integer not null constraint {Quote($"PK_{_names.DeadLetter}")} primary key autoincrement,
            outbox_id integer not null,
            kind integer not null,
            bus text not null,
            due_at integer null,
            attempts integer not null,
            claim_count integer not null,
            lane integer null,
            ordering_key text null,
            seq integer not null,
            message_id text not null,
            destination text null,
            message_type text not null,
            content_type text not null,
            headers text null,
            properties text null,
            body blob not null,
            created_at integer not null,
            expires_at integer null,
            schedule_token text null,
            failed_at integer not null default ({Now}),
            reason text not null,
            error text null
        );

        create table if not exists {_inbox} (
            message_id text not null,
            consumer text not null,
            generation integer not null default 0,
            consumed_at integer not null default ({Now}),
            constraint {Quote($"PK_{_names.Inbox}")} primary key (message_id, consumer, generation)
        );

        create index if not exists {Quote($"ix_{_names.Inbox}_consumed_at")} on {_inbox} (consumed_at);

        """;

    /// <inheritdoc />
    public override DatabaseError Classify(Exception exception) => exception switch
    {
        // A missing table or column is found when the statement is prepared, with the generic code; none of these statements has a syntax error.
        SqliteException { SqliteErrorCode: Error } => DatabaseError.MissingSchema,
        SqliteException { SqliteErrorCode: Busy or Locked } => DatabaseError.Contention,
        SqliteException { SqliteErrorCode: ReadOnly or InputOutput or Full or CannotOpen } => DatabaseError.Unavailable,
        _ => DatabaseError.Other,
    };

    /// <inheritdoc />
    public override DateTime ReadTime(DbDataReader reader, int ordinal)
    {
        ArgumentNullException.ThrowIfNull(reader);
        return DateTime.UnixEpoch.AddMilliseconds(reader.GetInt64(ordinal));
    }

    // As EF Core's SQLite provider writes ids.
    private static string Text(Guid id) => id.ToString("D", CultureInfo.InvariantCulture).ToUpperInvariant();

    private static long Milliseconds(TimeSpan time) => (long)time.TotalMilliseconds;

    private static long Milliseconds(DateTime time) => (time.Ticks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerMillisecond;

    private static void AddKey(DbCommand command, InboxKey key)
    {
        Add(command, "message_id", Text(key.MessageId));
        Add(command, "consumer", key.Consumer);
        Add(command, "generation", key.Generation);
    }

    private static void Add(DbCommand command, string name, object value) => command.Parameters.Add(new SqliteParameter(name, value));
}
