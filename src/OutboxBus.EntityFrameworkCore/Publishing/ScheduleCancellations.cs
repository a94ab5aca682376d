using System.Data.Common;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;
using OutboxBus.Storage;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// Tokens whose scheduled messages the context's next save takes back, by a statement in that save's transaction: the rows
/// are not tracked, and may be gone by then.
/// </summary>
internal sealed class ScheduleCancellations(DbContext context, IOutboxDatabase database, string bus)
{
    private readonly Lock _lock = new();
    private List<Guid> _tokens = [];

    // Those of the statement that the save under way has run.
    private IReadOnlyList<Guid> _run = [];

    // Run by a save whose changes were not accepted, and which may be repeated.
    private IReadOnlyList<Guid> _unaccepted = [];

    public IReadOnlyCollection<Guid> Unsaved
    {
        get
        {
            lock (_lock)
                return [.. _tokens];
        }
    }

    /// <summary>Whether the save under way has any, and has run none.</summary>
    public bool AreDue
    {
        get
        {
            lock (_lock)
                return _tokens.Count > 0 && _run.Count == 0;
        }
    }

    public bool HaveRun => _run.Count > 0;

    public void Add(Guid token)
    {
        lock (_lock)
        {
            if (!_tokens.Contains(token))
                _tokens.Add(token);
        }
    }

    /// <summary>A save begins, or its transaction does, again if the execution strategy repeats it.</summary>
    public void Begin()
    {
        lock (_lock)
        {
            _tokens.AddRange(_unaccepted.Except(_tokens));
            _unaccepted = _run = [];
        }
    }

    public void Run(DbTransaction? transaction)
    {
        using var command = CreateCommand(transaction);
        // An ambient transaction enlists the connection when it is opened.
        context.Database.OpenConnection();
        try
        {
            command.ExecuteNonQuery();
        }
        finally
        {
            context.Database.CloseConnection();
        }
    }

    /// <inheritdoc cref="Run"/>
    public async Task RunAsync(DbTransaction? transaction, CancellationToken cancellationToken)
    {
        var command = CreateCommand(transaction);
        await using var disposal = command.ConfigureAwait(false);
        await context.Database.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            await context.Database.CloseConnectionAsync().ConfigureAwait(false);
        }
    }

    /// <summary>The save has failed: the next one runs them again.</summary>
    public void Failed()
    {
        lock (_lock)
            _run = [];
    }

    /// <summary>The save has succeeded.</summary>
    /// <param name="isUnaccepted">Whether its changes are kept, to be saved again if its transaction comes to nothing.</param>
    public void Saved(bool isUnaccepted)
    {
        lock (_lock)
        {
            if (isUnaccepted)
                _unaccepted = _run;
            _tokens.RemoveAll(_run.Contains);
            _run = [];
        }
    }

    /// <summary>Starts over with the tokens given.</summary>
    public void Restart(IEnumerable<Guid> tokens)
    {
        lock (_lock)
        {
            _tokens = [.. tokens];
            _unaccepted = _run = [];
        }
    }

    private DbCommand CreateCommand(DbTransaction? transaction)
    {
        lock (_lock)
            _run = [.. _tokens];
        var command = context.Database.GetDbConnection().CreateCommand();
        command.Transaction = transaction ?? context.Database.CurrentTransaction?.GetDbTransaction();
        database.Dialect.CancelScheduled(command, bus, _run);
        return command;
    }
}
