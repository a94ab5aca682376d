using System.Data.Common;
using Npgsql;
using OutboxBus.Storage;

namespace OutboxBus.PostgreSql;

/// <summary>
/// PostgreSQL's statements. Predicates compare with <c>statement_timestamp()</c>, which an index scan can use; values
/// are written with <c>clock_timestamp()</c>, which moves on inside a transaction.
/// </summary>
public sealed class PostgreSqlDialect : SqlDialect
{
    private readonly OutboxTables _names;
    private readonly string _outbox;
    private readonly string _deadLetter;
    private readonly string _inbox;

    /// <summary>Creates the dialect for the tables named.</summary>
    /// <exception cref="OutboxBusException">A name is no usable identifier.</exception>
    public PostgreSqlDialect(OutboxTables tables)
    {
        ArgumentNullException.ThrowIfNull(tables);
        tables.Validate();
        _names = tables;
        _outbox = Qualify(tables.Outbox);
        _deadLetter = Qualify(tables.DeadLetter);
        _inbox = Qualify(tables.Inbox);
    }

    /// <inheritdoc />
    public override string Engine => "PostgreSQL";

    /// <inheritdoc />
    public override string EntityFrameworkProvider => "Npgsql.EntityFrameworkCore.PostgreSQL";

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
    public override bool CanAppendInsert => true;

    /// <inheritdoc />
    public override void AppendInsert(DbCommand command, IReadOnlyList<Envelope> envelopes)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(envelopes);
        var first = command.Parameters.Count;
        AddColumn(command, envelopes, envelope => envelope.Bus);
        AddColumn(command, envelopes, envelope => envelope.DueAt);
        AddColumn(command, envelopes, envelope => envelope.Seq);
        AddColumn(command, envelopes, envelope => envelope.MessageId);
        AddColumn(command, envelopes, envelope => envelope.Destination);
        AddColumn(command, envelopes, envelope => envelope.MessageType);
        AddColumn(command, envelopes, envelope => envelope.ContentType);
        AddColumn(command, envelopes, envelope => envelope.Headers);
        AddColumn(command, envelopes, envelope => envelope.Properties);
        AddColumn(command, envelopes, envelope => envelope.Body);
        AddColumn(command, envelopes, envelope => envelope.ExpiresAt);
        AddColumn(command, envelopes, envelope => envelope.ScheduleToken);
        var visibleAt = envelopes[0].VisibleAt == default ? "" : ", visible_at";
        if (visibleAt.Length > 0)
            AddColumn(command, envelopes, envelope => envelope.VisibleAt);
        var names = string.Join(", ", command.Parameters.Cast<DbParameter>().Skip(first).Select(parameter => $"@{parameter.ParameterName}"));
        // One row costs the server less as such: a fifth of the statement (pgbench).
        var rows = envelopes.Count == 1 ? $"values ({names})" : $"select * from unnest({names}) as message";
        command.CommandText += $"""

            insert into {_outbox}
                (bus, due_at, seq, message_id, destination, message_type, content_type, headers, properties, body, expires_at, schedule_token{visibleAt})
            {rows}
            returning id as {InsertedId}, visible_at, created_at
            """;
    }

    /// <inheritdoc />
    public override void Claim(DbCommand command, string bus, int limit, TimeSpan lease, TimeSpan? within)
    {
        ArgumentNullException.ThrowIfNull(command);
        // MATERIALIZED: the limit must bound the rows locked, whatever plan the update gets.
        command.CommandText = $"""
            with due as materialized (
                select id from {_outbox}
                where bus = @bus and visible_at <= statement_timestamp() and kind = 0 and lane is null
                    and visible_at > coalesce(statement_timestamp() - @within, '-infinity')
                order by visible_at, id
                limit @limit
                for update skip locked)
            update {_outbox} as message
            set visible_at = clock_timestamp() + @lease, claim_count = message.claim_count + 1
            from due
            where message.id = due.id
            returning {Prefixed("message")}
            """;
        Add(command, "bus", bus);
        Add(command, "limit", limit);
        Add(command, "lease", lease);
        Add(command, "within", within);
    }

    /// <inheritdoc />
    public override void Verify(DbCommand command, IReadOnlyList<Envelope> envelopes)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"select id, message_id, visible_at from {_outbox} where id = any(@ids)";
        Add(command, "ids", envelopes.Select(envelope => envelope.Id).ToArray());
    }

    /// <inheritdoc />
    public override void Complete(DbCommand command, IReadOnlyList<Envelope> envelopes)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            delete from {_outbox} as message
            using unnest(@ids, @message_ids) as sent (id, message_id)
            where message.id = sent.id and message.message_id = sent.message_id
            """;
        Add(command, "ids", envelopes.Select(envelope => envelope.Id).ToArray());
        Add(command, "message_ids", envelopes.Select(envelope => envelope.MessageId).ToArray());
    }

    /// <inheritdoc />
    public override void Reschedule(DbCommand command, IReadOnlyList<Rescheduling> reschedulings)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            update {_outbox} as message
            set visible_at = clock_timestamp() + later.delay,
                attempts = later.attempts,
                claim_count = later.claim_count,
                last_error = coalesce(later.error, message.last_error)
            from unnest(@ids, @message_ids, @fences, @delays, @attempts, @claim_counts, @errors)
                as later (id, message_id, fence, delay, attempts, claim_count, error)
            where message.id = later.id and message.message_id = later.message_id and message.visible_at = later.fence
            """;
        Add(command, "ids", reschedulings.Select(later => later.Envelope.Id).ToArray());
        Add(command, "message_ids", reschedulings.Select(later => later.Envelope.MessageId).ToArray());
        Add(command, "fences", reschedulings.Select(later => later.Envelope.VisibleAt).ToArray());
        Add(command, "delays", reschedulings.Select(later => later.Delay).ToArray());
        Add(command, "attempts", reschedulings.Select(later => later.Attempts).ToArray());
        Add(command, "claim_counts", reschedulings.Select(later => later.ClaimCount).ToArray());
        Add(command, "errors", reschedulings.Select(later => later.Error).ToArray());
    }

    /// <inheritdoc />
    public override void SetClaimCount(DbCommand command, Envelope envelope, int claimCount)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(envelope);
        command.CommandText = $"update {_outbox} set claim_count = @claim_count where id = @id and message_id = @message_id and visible_at = @fence";
        Add(command, "claim_count", claimCount);
        Add(command, "id", envelope.Id);
        Add(command, "message_id", envelope.MessageId);
        Add(command, "fence", envelope.VisibleAt);
    }

    /// <inheritdoc />
    public override void Bury(DbCommand command, Burial burial)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(burial);
        command.CommandText = $"""
            with gone as (
                delete from {_outbox}
                where id = @id and message_id = @message_id and visible_at = @fence
                returning *)
            insert into {_deadLetter}
                (outbox_id, attempts, {EnvelopeReader.KeptColumns}, reason, error)
            select id, @attempts, {EnvelopeReader.KeptColumns}, @reason, coalesce(@error, last_error)
            from gone
            """;
        Add(command, "id", burial.Envelope.Id);
        Add(command, "message_id", burial.Envelope.MessageId);
        Add(command, "fence", burial.Envelope.VisibleAt);
        Add(command, "attempts", burial.Attempts);
        Add(command, "reason", burial.Reason.ToString());
        command.Parameters.Add(new NpgsqlParameter("error", NpgsqlTypes.NpgsqlDbType.Text) { Value = (object?)burial.Error ?? DBNull.Value });
    }

    /// <inheritdoc />
    public override void CancelScheduled(DbCommand command, string bus, IReadOnlyList<Guid> tokens)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"delete from {_outbox} where schedule_token = any(@tokens) and bus = @bus and kind = 0";
        Add(command, "tokens", tokens.ToArray());
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
        command.CommandText = $"""
            insert into {_inbox} (message_id, consumer, generation)
            select message_id, consumer, generation
            from unnest(@message_ids, @consumers, @generations) with ordinality as batch (message_id, consumer, generation, position)
            order by position
            on conflict do nothing
            returning message_id, consumer, generation
            """;
        Add(command, "message_ids", keys.Select(key => key.MessageId).ToArray());
        Add(command, "consumers", keys.Select(key => key.Consumer).ToArray());
        Add(command, "generations", keys.Select(key => key.Generation).ToArray());
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
        Add(command, "message_id", messageId);
        command.Parameters.Add(new NpgsqlParameter("consumer", NpgsqlTypes.NpgsqlDbType.Text) { Value = (object?)consumer ?? DBNull.Value });
    }

    /// <inheritdoc />
    public override void PurgeInbox(DbCommand command, TimeSpan retention, int limit)
    {
        ArgumentNullException.ThrowIfNull(command);
        // Several instances may purge at once: each skips the rows another is deleting.
        command.CommandText = $"""
            with old as materialized (
                select message_id, consumer, generation from {_inbox}
                where consumed_at < statement_timestamp() - @retention
                order by consumed_at
                limit @limit
                for update skip locked)
            delete from {_inbox} as message
            using old
            where message.message_id = old.message_id and message.consumer = old.consumer and message.generation = old.generation
            """;
        Add(command, "retention", retention);
        Add(command, "limit", limit);
    }

    /// <inheritdoc />
    public override void Status(DbCommand command, string bus, int countLimit)
    {
        ArgumentNullException.ThrowIfNull(command);
        command.CommandText = $"""
            select
                (select count(*) from (
                    select 1 from {_outbox}
                    where bus = @bus and visible_at <= statement_timestamp() and kind = 0 and lane is null limit @limit) as due),
                (select extract(epoch from statement_timestamp() - greatest(created_at, coalesce(due_at, created_at)))::double precision from {_outbox}
                    where bus = @bus and visible_at <= statement_timestamp() and kind = 0 and lane is null
                    order by visible_at, id limit 1),
                (select count(*) from (select 1 from {_deadLetter} where bus = @bus limit @limit) as dead)
            """;
        Add(command, "bus", bus);
        Add(command, "limit", countLimit);
    }

    /// <inheritdoc />
    public override string CreateScript(TimeSpan freshRowLease)
    {
        var schema = _names.Schema is null ? "" : $"create schema if not exists {Quote(_names.Schema)};\n\n";
        return schema + $"""
            create table if not exists {_outbox} (
                id bigint generated by default as identity,
                kind smallint not null default 0,
                bus character varying(256) not null,
                visible_at timestamp with time zone not null default (clock_timestamp() + interval '{(long)freshRowLease.TotalMilliseconds} milliseconds'),
                due_at timestamp with time zone,
                attempts integer not null default 0,
                claim_count integer not null default 0,
                lane smallint,
                ordering_key character varying(256),
                seq integer not null default 0,
                message_id uuid not null,
                destination character varying(1024),
                message_type character varying(1024) not null,
                content_type character varying(256) not null,
                headers text,
                properties text,
                body bytea not null,
                created_at timestamp with time zone not null default (clock_timestamp()),
                expires_at timestamp with time zone,
                schedule_token uuid,
                last_error character varying(1000),
                constraint {Quote($"PK_{_names.Outbox}")} primary key (id)
            )
            with (autovacuum_vacuum_insert_scale_factor=0, autovacuum_vacuum_insert_threshold=10000, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=2000);

            create index if not exists {Quote($"ix_{_names.Outbox}_visible")} on {_outbox} (bus, visible_at, id) where lane is null;
            create index if not exists {Quote($"ix_{_names.Outbox}_lane")} on {_outbox} (lane, id) where lane is not null;
            create index if not exists {Quote($"ix_{_names.Outbox}_schedule_token")} on {_outbox} (schedule_token) where schedule_token is not null;

            create table if not exists {_deadLetter} (
                id bigint generated by default as identity,
                outbox_id bigint not null,
                kind smallint not null,
                bus character varying(256) not null,
                due_at timestamp with time zone,
                attempts integer not null,
                claim_count integer not null,
                lane smallint,
                ordering_key character varying(256),
                seq integer not null,
                message_id uuid not null,
                destination character varying(1024),
                message_type character varying(1024) not null,
                content_type character varying(256) not null,
                headers text,
                properties text,
                body bytea not null,
                created_at timestamp with time zone not null,
                expires_at timestamp with time zone,
                schedule_token uuid,
                failed_at timestamp with time zone not null default (clock_timestamp()),
                reason character varying(256) not null,
                error character varying(1000),
                constraint {Quote($"PK_{_names.DeadLetter}")} primary key (id)
            );

            create table if not exists {_inbox} (
                message_id uuid not null,
                consumer character varying(512) not null,
                generation integer not null default 0,
                consumed_at timestamp with time zone not null default (clock_timestamp()),
                constraint {Quote($"PK_{_names.Inbox}")} primary key (message_id, consumer, generation)
            );

            create index if not exists {Quote($"ix_{_names.Inbox}_consumed_at")} on {_inbox} (consumed_at);

            """;
    }

    /// <inheritdoc />
    /// <remarks>Codes: PostgreSQL documentation, appendix A.</remarks>
    public override DatabaseError Classify(Exception exception) => exception switch
    {
        PostgresException postgres => postgres.SqlState switch
        {
            PostgresErrorCodes.UndefinedTable or PostgresErrorCodes.UndefinedColumn or PostgresErrorCodes.InvalidSchemaName => DatabaseError.MissingSchema,
            PostgresErrorCodes.DeadlockDetected or PostgresErrorCodes.SerializationFailure or PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.QueryCanceled => DatabaseError.Contention,
            // The database itself is missing; a standby: both end without us.
            PostgresErrorCodes.InvalidCatalogName or PostgresErrorCodes.ReadOnlySqlTransaction => DatabaseError.Unavailable,
            // 57P01 to 57P05: the server ended the session, or takes none: shutdown, crash, dropped, idle for too long.
            { } code when code.StartsWith("57P", StringComparison.Ordinal) => DatabaseError.Unavailable,
            // Classes 08 connection, 53 insufficient resources (disk, memory, connections), 58 system error.
            { } code when code.StartsWith("08", StringComparison.Ordinal) || code.StartsWith("53", StringComparison.Ordinal) || code.StartsWith("58", StringComparison.Ordinal) => DatabaseError.Unavailable,
            _ => DatabaseError.Other,
        },
        // Npgsql reports its own command timeout as an exception around a TimeoutException.
        NpgsqlException { InnerException: TimeoutException } => DatabaseError.Contention,
        NpgsqlException => DatabaseError.Unavailable,
        _ => DatabaseError.Other,
    };

    private string Qualify(string table) => _names.Schema is null ? Quote(table) : $"{Quote(_names.Schema)}.{Quote(table)}";

    private static string Prefixed(string alias) => $"{alias}.{EnvelopeReader.Columns.Replace(", ", $", {alias}.", StringComparison.Ordinal)}";

    /// <summary>One column of the envelopes: a value if there is one, else an array. The names differ from EF Core's and from those of an earlier insert in the same command.</summary>
    private static void AddColumn<T>(DbCommand command, IReadOnlyList<Envelope> envelopes, Func<Envelope, T> value)
    {
        var name = $"outbox{command.Parameters.Count}";
        if (envelopes.Count == 1)
            Add(command, name, value(envelopes[0]));
        else
            Add(command, name, envelopes.Select(value).ToArray());
    }

    private static void AddKey(DbCommand command, InboxKey key)
    {
        Add(command, "message_id", key.MessageId);
        Add(command, "consumer", key.Consumer);
        Add(command, "generation", key.Generation);
    }

    private static void Add<T>(DbCommand command, string name, T value) => command.Parameters.Add(new NpgsqlParameter<T>(name, value));
}
