using System.Data.Common;
using Microsoft.Data.Sqlite;

namespace OutboxBus.Tests.Fakes;

/// <summary>A unit of work over a real SQLite transaction, without EF Core; records its steps and fails where told to.</summary>
internal sealed class FakeUnitOfWork(SqliteDatabase database) : IUnitOfWork, IAsyncDisposable
{
    private readonly List<Envelope> _appended = [];
    private SqliteConnection? _connection;
    private SqliteTransaction? _transaction;

    /// <summary>Every step in order.</summary>
    public List<string> Steps { get; } = [];

    public bool FlushWritesRows { get; set; } = true;

    public Exception? FlushError { get; set; }

    /// <summary>Thrown by the commit instead of committing.</summary>
    public Exception? CommitError { get; set; }

    /// <summary>Thrown by the commit after it was done: the answer got lost.</summary>
    public Exception? ErrorAfterCommit { get; set; }

    /// <summary>Runs once a transaction is rolled back, as another consumer that waited for it would.</summary>
    public Action? RolledBack { get; set; }

    public IReadOnlyCollection<Envelope> Unsaved => _appended;

    public void Append(Envelope envelope)
    {
        lock (_appended)
            _appended.Add(envelope);
    }

    public Task WithoutRetriesAsync(Func<Task> operation) => operation();

    public async Task BeginAsync(CancellationToken cancellationToken)
    {
        Steps.Add("begin");
        _connection = await database.OpenConnectionAsync();
        _transaction = _connection.BeginTransaction();
    }

    public DbCommand CreateCommand()
    {
        Steps.Add("command");
        var command = _connection!.CreateCommand();
        command.Transaction = _transaction;
        return command;
    }

    public IReadOnlyCollection<Guid> UnsavedCancellations { get; set; } = [];

    public void Cancel(Guid scheduleToken) => throw new NotSupportedException("The gate cancels nothing.");

    public Task MarkAsync(CancellationToken cancellationToken) => throw new NotSupportedException("The gate sets no mark.");

    public Task RollbackToMarkAsync(CancellationToken cancellationToken) => throw new NotSupportedException("The gate sets no mark.");

    public async Task<bool> FlushAsync(InboxMessage? record, CancellationToken cancellationToken)
    {
        Steps.Add("flush");
        if (FlushError is not null)
            throw FlushError;
        if (record is null)
            return FlushWritesRows;

        await using var command = _connection!.CreateCommand();
        command.Transaction = _transaction;
        command.CommandText = FormattableString.Invariant(
            $"insert into inbox_message (message_id, consumer, generation) values ({SqliteDatabase.Text(record.MessageId)}, '{record.Consumer}', {record.Generation})");
        await command.ExecuteNonQueryAsync(cancellationToken);
        return true;
    }

    public async Task CommitAsync(CancellationToken cancellationToken)
    {
        Steps.Add("commit");
        if (CommitError is not null)
            throw CommitError;
        await _transaction!.CommitAsync(cancellationToken);
        if (ErrorAfterCommit is not null)
            throw ErrorAfterCommit;
    }

    public async Task RollbackAsync()
    {
        Steps.Add("rollback");
        _appended.Clear();
        await DisposeAsync();
        RolledBack?.Invoke();
    }

    /// <summary>Writes in the transaction, as a handler does.</summary>
    public void Execute(string sql)
    {
        Steps.Add("handler");
        using var command = _connection!.CreateCommand();
        command.Transaction = _transaction;
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    public async ValueTask DisposeAsync()
    {
        if (_transaction is not null)
            await _transaction.DisposeAsync();
        if (_connection is not null)
            await _connection.DisposeAsync();
        _transaction = null;
        _connection = null;
    }
}
