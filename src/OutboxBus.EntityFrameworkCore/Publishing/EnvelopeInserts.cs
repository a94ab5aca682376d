using System.Data.Common;
using OutboxBus.Storage;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// The envelopes that travel with a command of the save under way, in a statement of their own that is appended to it:
/// no round trip more, and nothing for EF Core to track, compare and insert row by row.
/// </summary>
internal sealed class EnvelopeInserts(IOutboxDatabase database)
{
    private readonly List<Envelope> _envelopes = [];

    // Of the first envelopes, in their order.
    private readonly List<Answer> _answers = [];
    private DbCommand? _command;

    public IReadOnlyCollection<Envelope> Envelopes => _envelopes;

    /// <summary>Whether the database has answered for all of them.</summary>
    public bool AreInserted => _envelopes.Count > 0 && _envelopes.Count == _answers.Count;

    /// <summary>Appends a statement for these envelopes, and for those whose earlier statement has come to nothing; false if there are none.</summary>
    public bool AppendTo(DbCommand command, IEnumerable<Envelope> envelopes)
    {
        _envelopes.AddRange(envelopes);
        if (_answers.Count == _envelopes.Count)
            return false;
        _command = command;
        for (var from = _answers.Count; from < _envelopes.Count;)
        {
            // A statement uses the default of visible_at for all of its rows or for none.
            var isDefault = _envelopes[from].VisibleAt == default;
            var to = from + 1;
            while (to < _envelopes.Count && (_envelopes[to].VisibleAt == default) == isDefault)
                to++;
            if (!command.CommandText.AsSpan().TrimEnd().EndsWith(";"))
                command.CommandText += ";";
            database.Dialect.AppendInsert(command, _envelopes[from..to]);
            from = to;
        }

        return true;
    }

    /// <summary>Reads what the statement has returned, when EF Core has read what is its own.</summary>
    public void Read(DbCommand command, DbDataReader reader)
    {
        if (!IsAwaitedFrom(command))
            return;
        do
        {
            while (IsOurs(reader) && reader.Read())
                Note(reader);
        }
        while (reader.NextResult());
    }

    /// <inheritdoc cref="Read"/>
    public async Task ReadAsync(DbCommand command, DbDataReader reader)
    {
        if (!IsAwaitedFrom(command))
            return;
        do
        {
            while (IsOurs(reader) && await reader.ReadAsync().ConfigureAwait(false))
                Note(reader);
        }
        while (await reader.NextResultAsync().ConfigureAwait(false));
    }

    /// <summary>The save begins its transaction: if it is not the first one, what was answered in the last has come to nothing.</summary>
    public void StartAgain() => _answers.Clear();

    /// <summary>They are stored: lets them go, now with what the database has given them.</summary>
    public List<Envelope> TakeInserted()
    {
        for (var row = 0; row < _envelopes.Count; row++)
            (_envelopes[row].Id, _envelopes[row].VisibleAt, _envelopes[row].CreatedAt) = (_answers[row].Id, _answers[row].VisibleAt, _answers[row].CreatedAt);
        return TakeAll();
    }

    /// <summary>Lets them go as they are.</summary>
    public List<Envelope> TakeAll()
    {
        List<Envelope> all = [.. _envelopes];
        _envelopes.Clear();
        _answers.Clear();
        _command = null;
        return all;
    }

    private bool IsAwaitedFrom(DbCommand command) => ReferenceEquals(command, _command) && _answers.Count < _envelopes.Count;

    private static bool IsOurs(DbDataReader reader) => reader.FieldCount > 0 && reader.GetName(0) == SqlDialect.InsertedId;

    private void Note(DbDataReader reader)
        => _answers.Add(new Answer(reader.GetInt64(0), database.Dialect.ReadTime(reader, 1), database.Dialect.ReadTime(reader, 2)));

    private readonly record struct Answer(long Id, DateTime VisibleAt, DateTime CreatedAt);
}
