using Microsoft.EntityFrameworkCore.Storage.ValueConversion;

namespace OutboxBus.EntityFrameworkCore.Storage;

/// <summary>What the mapping must know of an engine; everything else its EF Core provider chooses.</summary>
internal abstract class EngineSchema
{
    /// <summary>The database's present, as an expression for a column default.</summary>
    public abstract string Now { get; }

    /// <summary>The database's present plus a time.</summary>
    public abstract string NowPlus(TimeSpan time);

    /// <summary>How times are stored, if not as the provider does it.</summary>
    public virtual ValueConverter? TimeConverter => null;

    /// <summary>Annotations of the outbox table.</summary>
    public virtual IReadOnlyDictionary<string, object> TableAnnotations { get; } = new Dictionary<string, object>();

    /// <summary>
    /// Reads one row by its key, {0}, and locks it until the transaction ends; null: a transaction has the whole database
    /// anyway. The names are quoted.
    /// </summary>
    public virtual string? LockingQuery(string table, string key) => null;

    /// <summary>The engine behind an EF Core provider.</summary>
    /// <exception cref="OutboxBusException">The provider is not supported.</exception>
    public static EngineSchema For(string? provider) => provider switch
    {
        "Npgsql.EntityFrameworkCore.PostgreSQL" => new PostgreSqlSchema(),
        "Microsoft.EntityFrameworkCore.Sqlite" => new SqliteSchema(),
        _ => throw new OutboxBusException(
            $"OutboxBus does not support the EF Core provider \"{provider}\". Supported: Npgsql.EntityFrameworkCore.PostgreSQL, Microsoft.EntityFrameworkCore.Sqlite."),
    };

    private sealed class PostgreSqlSchema : EngineSchema
    {
        // clock_timestamp(), not now(): a row's lease counts from its insert, not from the start of its transaction.
        public override string Now => "clock_timestamp()";

        // A queue's table turns over all the time: vacuum by a fixed number of dead rows, not by a share of the table.
        public override IReadOnlyDictionary<string, object> TableAnnotations { get; } = new Dictionary<string, object>
        {
            ["Npgsql:StorageParameter:autovacuum_vacuum_scale_factor"] = 0.0,
            ["Npgsql:StorageParameter:autovacuum_vacuum_threshold"] = 2000,
            ["Npgsql:StorageParameter:autovacuum_vacuum_insert_scale_factor"] = 0.0,
            ["Npgsql:StorageParameter:autovacuum_vacuum_insert_threshold"] = 10000,
        };

        public override string NowPlus(TimeSpan time) => FormattableString.Invariant($"clock_timestamp() + interval '{(long)time.TotalMilliseconds} milliseconds'");

        // xmin is not part of *, and may be mapped as the row's version.
        public override string LockingQuery(string table, string key) => $"select *, xmin from {table} where {key} = {{0}} for update";
    }

    /// <summary>SQLite has no time type: times are milliseconds since 1970, the finest its clock gives.</summary>
    private sealed class SqliteSchema : EngineSchema
    {
        public override string Now => "(cast(unixepoch('subsec') * 1000 as integer))";

        public override ValueConverter? TimeConverter { get; } = new ValueConverter<DateTime, long>(
            time => (time.Ticks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerMillisecond,
            milliseconds => DateTime.UnixEpoch.AddTicks(milliseconds * TimeSpan.TicksPerMillisecond));

        public override string NowPlus(TimeSpan time) => FormattableString.Invariant($"(cast(unixepoch('subsec') * 1000 as integer) + {(long)time.TotalMilliseconds})");
    }
}
