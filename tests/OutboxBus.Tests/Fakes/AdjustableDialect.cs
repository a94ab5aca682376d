using System.Collections.Concurrent;
using System.Data.Common;
using OutboxBus.Storage;

namespace OutboxBus.Tests.Fakes;

/// <summary>A real dialect of which single statements can be made to fail; counts how often each was asked for.</summary>
internal sealed class AdjustableDialect(SqlDialect inner) : SqlDialect
{
    private readonly ConcurrentDictionary<string, int> _calls = new();

    /// <summary>Called with the statement's name before it is built; may throw.</summary>
    public Action<string>? Before { get; set; }

    public string? Probe { get; set; }

    /// <summary>How far back each claim has looked; null: at everything.</summary>
    public ConcurrentQueue<TimeSpan?> ClaimedWithin { get; } = new();

    public override string Engine => inner.Engine;

    public override string EntityFrameworkProvider => inner.EntityFrameworkProvider;

    public override bool HasSingleWriter => inner.HasSingleWriter;

    public override string ProbeStatement
    {
        get
        {
            Note(nameof(ProbeStatement));
            return Probe ?? inner.ProbeStatement;
        }
    }

    public int Calls(string statement) => _calls.GetValueOrDefault(statement);

    public override void CheckSchema(DbCommand command) => Note(nameof(CheckSchema), () => inner.CheckSchema(command));

    public override void Claim(DbCommand command, string bus, int limit, TimeSpan lease, TimeSpan? within) 
    {
        ClaimedWithin.Enqueue(within);
        Note(nameof(Claim), () => inner.Claim(command, bus, limit, lease, within));
    }

    public override void Verify(DbCommand command, IReadOnlyList<Envelope> envelopes) => Note(nameof(Verify), () => inner.Verify(command, envelopes));

    public override void Complete(DbCommand command, IReadOnlyList<Envelope> envelopes) => Note(nameof(Complete), () => inner.Complete(command, envelopes));

    public override void Reschedule(DbCommand command, IReadOnlyList<Rescheduling> reschedulings) => Note(nameof(Reschedule), () => inner.Reschedule(command, reschedulings));

    public override void SetClaimCount(DbCommand command, Envelope envelope, int claimCount) => Note(nameof(SetClaimCount), () => inner.SetClaimCount(command, envelope, claimCount));

    public override void Bury(DbCommand command, Burial burial) => Note(nameof(Bury), () => inner.Bury(command, burial));

    public override void CancelScheduled(DbCommand command, string bus, IReadOnlyList<Guid> tokens) => Note(nameof(CancelScheduled), () => inner.CancelScheduled(command, bus, tokens));

    public override void RecordConsumed(DbCommand command, InboxKey key) => Note(nameof(RecordConsumed), () => inner.RecordConsumed(command, key));

    public override void RecordBatchConsumed(DbCommand command, IReadOnlyList<InboxKey> keys) => Note(nameof(RecordBatchConsumed), () => inner.RecordBatchConsumed(command, keys));

    public override void FindConsumed(DbCommand command, InboxKey key) => Note(nameof(FindConsumed), () => inner.FindConsumed(command, key));

    public override void ForgetConsumed(DbCommand command, Guid messageId, string? consumer) => Note(nameof(ForgetConsumed), () => inner.ForgetConsumed(command, messageId, consumer));

    public override void PurgeInbox(DbCommand command, TimeSpan retention, int limit) => Note(nameof(PurgeInbox), () => inner.PurgeInbox(command, retention, limit));

    public override void Status(DbCommand command, string bus, int countLimit) => Note(nameof(Status), () => inner.Status(command, bus, countLimit));

    public override string CreateScript(TimeSpan freshRowLease) => inner.CreateScript(freshRowLease);

    public override DatabaseError Classify(Exception exception) => inner.Classify(exception);

    public override DateTime ReadTime(DbDataReader reader, int ordinal) => inner.ReadTime(reader, ordinal);

    private void Note(string statement, Action? build = null)
    {
        _calls.AddOrUpdate(statement, 1, static (_, calls) => calls + 1);
        Before?.Invoke(statement);
        build?.Invoke();
    }
}
