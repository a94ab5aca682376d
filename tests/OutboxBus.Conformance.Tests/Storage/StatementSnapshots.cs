using System.Data.Common;
using System.Globalization;
using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;
using Npgsql;
using OutboxBus.PostgreSql;
using OutboxBus.Sqlite;
using OutboxBus.Storage;
using Snapshooter.Xunit;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// Every statement with its parameters, per engine, side by side: a change of SQL shows in review. To write them anew, delete the
// files in __snapshots__ and run once with SNAPSHOOTER_STRICT_MODE=false.
public sealed class StatementSnapshots
{
    private const string StrictMode = "SNAPSHOOTER_STRICT_MODE";

    private static readonly Envelope One = New(7, "5a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69");
    private static readonly Envelope Two = New(8, "9b1c2d3e-4f50-4162-8374-95a6b7c8d9e0");
    private static readonly InboxKey Key = new(One.MessageId, "stock:OrderPlaced", 2);

    private static readonly Dictionary<string, Action<SqlDialect, DbCommand>> Operations = new()
    {
        ["CheckSchema"] = (dialect, command) => dialect.CheckSchema(command),
        ["AppendInsert.One"] = (dialect, command) => dialect.AppendInsert(command, [One]),
        ["AppendInsert.Many"] = (dialect, command) => dialect.AppendInsert(command, [One, Two]),
        ["AppendInsert.Leased"] = (dialect, command) => dialect.AppendInsert(command, [new Envelope { MessageId = One.MessageId, MessageType = One.MessageType }]),
        ["Claim"] = (dialect, command) => dialect.Claim(command, "main", 500, TimeSpan.FromSeconds(30), null),
        ["Claim.Within"] = (dialect, command) => dialect.Claim(command, "main", 500, TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(2)),
        ["Verify"] = (dialect, command) => dialect.Verify(command, [One, Two]),
        ["Complete"] = (dialect, command) => dialect.Complete(command, [One, Two]),
        ["Reschedule"] = (dialect, command) => dialect.Reschedule(
            command, [new Rescheduling(One, TimeSpan.FromMinutes(1), 3, 1, "refused"), new Rescheduling(Two, TimeSpan.Zero, 0, 0, null)]),
        ["SetClaimCount"] = (dialect, command) => dialect.SetClaimCount(command, One, 1000),
        ["Bury"] = (dialect, command) => dialect.Bury(command, new Burial(One, DeadLetterReason.Refused, 10, "refused")),
        ["CancelScheduled"] = (dialect, command) => dialect.CancelScheduled(command, "main", [One.MessageId, Two.MessageId]),
        ["RecordConsumed"] = (dialect, command) => dialect.RecordConsumed(command, Key),
        ["RecordBatchConsumed"] = (dialect, command) => dialect.RecordBatchConsumed(command, [Key, Key with { MessageId = Two.MessageId, Generation = 0 }]),
        ["FindConsumed"] = (dialect, command) => dialect.FindConsumed(command, Key),
        ["ForgetConsumed"] = (dialect, command) => dialect.ForgetConsumed(command, One.MessageId, "stock:OrderPlaced"),
        ["PurgeInbox"] = (dialect, command) => dialect.PurgeInbox(command, TimeSpan.FromDays(7), 1000),
        ["Status"] = (dialect, command) => dialect.Status(command, "main", 10_001),
        ["Probe"] = (dialect, command) => command.CommandText = dialect.ProbeStatement,
        ["CreateScript"] = (dialect, command) => command.CommandText = dialect.CreateScript(TimeSpan.FromSeconds(30)),
    };

    // Otherwise a missing snapshot would be written and pass.
    [ModuleInitializer]
    internal static void BeStrict() => Environment.SetEnvironmentVariable(StrictMode, Environment.GetEnvironmentVariable(StrictMode) ?? "true");

    public static TheoryData<string, string> Statements()
    {
        var statements = new TheoryData<string, string>();
        foreach (var operation in Operations.Keys)
        {
            statements.Add(operation, "PostgreSql");
            // SQLite's rows are EF Core's.
            if (!operation.StartsWith(nameof(SqlDialect.AppendInsert), StringComparison.Ordinal))
                statements.Add(operation, "Sqlite");
        }

        return statements;
    }

    [Theory]
    [MemberData(nameof(Statements))]
    public void A_statement_is_as_reviewed(string operation, string engine)
    {
        // Names that must be quoted show that they are.
        var tables = new OutboxTables("my schema", "out\"box", "dead letter", "in[box]");
        (SqlDialect dialect, DbCommand command) = engine == "Sqlite"
            ? ((SqlDialect)new SqliteDialect(tables), (DbCommand)new SqliteCommand())
            : (new PostgreSqlDialect(tables), new NpgsqlCommand());
        using (command)
        {
            Operations[operation](dialect, command);
            var parameters = command.Parameters.Cast<DbParameter>().Select(parameter => $"{parameter.ParameterName} = {Text(parameter.Value)}");
            Snapshot.Match(string.Join('\n', [command.CommandText.TrimEnd(), "--", .. parameters]), $"{operation}.{engine}");
        }
    }

    [Fact]
    public void Every_statement_of_a_dialect_has_a_snapshot()
    {
        var statements = typeof(SqlDialect).GetMethods()
            .Where(method => method.IsAbstract && method.GetParameters() is [{ ParameterType: var first }, ..] && first == typeof(DbCommand));

        Assert.Empty(statements.Select(method => method.Name).Except(Operations.Keys));
    }

    private static Envelope New(long id, string messageId) => new()
    {
        Id = id,
        MessageId = Guid.Parse(messageId),
        VisibleAt = new DateTime(2030, 1, 2, 3, 4, 5, 678, DateTimeKind.Utc),
    };

    private static string Text(object? value) => value switch
    {
        null or DBNull => "null",
        string text => $"'{text}'",
        DateTime time => time.ToString("O", CultureInfo.InvariantCulture),
        System.Collections.IEnumerable items => $"[{string.Join(", ", items.Cast<object?>().Select(Text))}]",
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };
}
