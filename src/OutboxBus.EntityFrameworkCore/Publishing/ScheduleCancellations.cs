using System.Data.Common;
using System.Transactions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// Tokens whose scheduled messages the context's next save takes back, by a statement in that save's transaction: the rows
/// are not tracked, and may be gone by then. It runs before the save's own rows, so that a token can be used again at once.
/// </summary>
internal sealed class ScheduleCancellations(DbContext context, IOutboxDatabase database, string bus, SaveAcceptance acceptance, ILogger logger)
{
    private readonly Lock _lock = new();

    // In the order of the calls. The save under way has run the first ones.
    private readonly List<Guid> _tokens = [];
    private int _run;
    private UnacceptedRun? _unaccepted;
    private AutoTransactionBehavior? _autoTransactions;

    public IReadOnlyCollection<Guid> Unsaved
    {
        get
        {
            lock (_lock)
                return [.. _tokens.Distinct()];
        }
    }

    /// <summary>Whether there are any that the save under way, or else the next one, is still to run.</summary>
    public bool AreDue
    {
        get
        {
            lock (_lock)
                return _tokens.Count > _run;
        }
    }

    public bool HaveRun => _run > 0;

    // EF Core then sets one before it writes, and takes the save back to it if it fails.
    private bool HasSavepoint => context.Database.CurrentTransaction is { SupportsSavepoints: true } && context.Database.AutoSavepointsEnabled;

    public void Add(Guid token)
    {
        lock (_lock)
        {
            acceptance.Listen();
            if (_tokens.IndexOf(token, _run) < 0)
                _tokens.Add(token);
        }
    }

    /// <summary>
    /// A save begins. What an earlier one has run without its changes being accepted is run again, unless that is known to
    /// have been committed, or messages stand that were scheduled anew with the token.
    /// </summary>
    public void Begin(IReadOnlyCollection<Guid> standing)
    {
        RestoreAutoTransactions();
        lock (_lock)
        {
            _run = 0;
            if (_unaccepted is { IsPending: true } unaccepted)
                _tokens.InsertRange(0, unaccepted.Tokens.Except(_tokens).Except(standing));
            _unaccepted = null;
        }
    }

    /// <summary>Whether the statement is to run at this stage of a save: the earliest that is inside the save's transaction, and taken back with it.</summary>
    public bool AreDueAt(SaveStage stage)
    {
        if (stage == SaveStage.TransactionBegun)
        {
            // The execution strategy may have come here before.
            lock (_lock)
                _run = 0;
        }

        return AreDue && stage switch
        {
            SaveStage.Begun => context.HasTransaction() && !HasSavepoint,
            SaveStage.TransactionBegun or SaveStage.SavepointCreated => true,
            // Without rows EF Core has no transaction. If there are some still, the save was suppressed.
            _ => context.FindUnsavedRow(_ => true) is null,
        };
    }

    /// <summary>A single row EF Core would save without a transaction.</summary>
    public void DemandTransaction()
    {
        if (_autoTransactions is not null || context.HasTransaction())
            return;
        _autoTransactions = context.Database.AutoTransactionBehavior;
        context.Database.AutoTransactionBehavior = AutoTransactionBehavior.Always;
    }

    /// <summary>The save has ended, one way or another.</summary>
    public void RestoreAutoTransactions()
    {
        if (_autoTransactions is { } autoTransactions)
            context.Database.AutoTransactionBehavior = autoTransactions;
        _autoTransactions = null;
    }

    /// <summary>Takes the messages back: in the transaction given, or in the context's, or alone. Returns the tokens.</summary>
    public IReadOnlyList<Guid> Run(DbTransaction? transaction)
    {
        var tokens = TakeTokens();
        if (transaction is null && !context.HasTransaction())
            context.Database.CreateExecutionStrategy().Execute(() => Execute(tokens, null));
        else
            Execute(tokens, transaction);
        return tokens;
    }

    /// <inheritdoc cref="Run"/>
    public async Task<IReadOnlyList<Guid>> RunAsync(DbTransaction? transaction, CancellationToken cancellationToken)
    {
        var tokens = TakeTokens();
        if (transaction is null && !context.HasTransaction())
            await context.Database.CreateExecutionStrategy().ExecuteAsync(cancelled => ExecuteAsync(tokens, null, cancelled), cancellationToken).ConfigureAwait(false);
        else
            await ExecuteAsync(tokens, transaction, cancellationToken).ConfigureAwait(false);
        return tokens;
    }

    /// <summary>The save has failed: the next one runs them again.</summary>
    public void Failed()
    {
        lock (_lock)
            _run = 0;
    }

    /// <summary>The save has succeeded. If its changes are not accepted, they are to be saved again should its transaction come to nothing.</summary>
    public void Saved()
    {
        lock (_lock)
        {
            if (acceptance.OfSave == false && context.HasTransaction())
                _unaccepted = new UnacceptedRun(_tokens[.._run], context.Database.CurrentTransaction?.TransactionId, context.FindUnsavedRow(row => row is not Envelope));
            _tokens.RemoveRange(0, _run);
            _run = 0;
            if (_unaccepted is { Transaction: null } unaccepted)
                context.AmbientTransaction()!.TransactionCompleted += (_, end) => unaccepted.IsCommitted = end.Transaction?.TransactionInformation.Status == TransactionStatus.Committed;
        }
    }

    /// <summary>One of the context's transactions has committed.</summary>
    public void Committed(Guid transaction)
    {
        if (_unaccepted is { } unaccepted && unaccepted.Transaction == transaction)
            unaccepted.IsCommitted = true;
    }

    /// <summary>Starts over with the tokens given.</summary>
    public void Restart(IEnumerable<Guid> tokens)
    {
        lock (_lock)
        {
            _tokens.Clear();
            _tokens.AddRange(tokens);
            _run = 0;
            _unaccepted = null;
        }
    }

    private List<Guid> TakeTokens()
    {
        lock (_lock)
        {
            // Not those that have run: the save may have written new messages with their tokens since.
            var tokens = _tokens[_run..];
            _run = _tokens.Count;
            return tokens;
        }
    }

    private void Execute(List<Guid> tokens, DbTransaction? transaction)
    {
        using var command = CreateCommand(tokens, transaction);
        // An ambient transaction enlists the connection when it is opened.
        context.Database.OpenConnection();
        try
        {
            logger.Cancelled(tokens.Count, tokens[0], command.ExecuteNonQuery());
        }
        finally
        {
            context.Database.CloseConnection();
        }
    }

    private async Task ExecuteAsync(List<Guid> tokens, DbTransaction? transaction, CancellationToken cancellationToken)
    {
        var command = CreateCommand(tokens, transaction);
        await using var disposal = command.ConfigureAwait(false);
        await context.Database.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            logger.Cancelled(tokens.Count, tokens[0], await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false));
        }
        finally
        {
            await context.Database.CloseConnectionAsync().ConfigureAwait(false);
        }
    }

    private DbCommand CreateCommand(List<Guid> tokens, DbTransaction? transaction)
    {
        var command = context.Database.GetDbConnection().CreateCommand();
        command.Transaction = transaction ?? context.Database.CurrentTransaction?.GetDbTransaction();
        if (context.Database.GetCommandTimeout() is { } timeout)
            command.CommandTimeout = timeout;
        database.Dialect.CancelScheduled(command, bus, tokens);
        return command;
    }

    /// <summary>What a save has run whose changes were not accepted.</summary>
    /// <param name="Tokens">The tokens.</param>
    /// <param name="Transaction">The context's transaction; null: an ambient one.</param>
    /// <param name="Row">A row of the application in the same save: once it is accepted or forgotten, so is this. Null: it had none.</param>
    private sealed record UnacceptedRun(IReadOnlyList<Guid> Tokens, Guid? Transaction, EntityEntry? Row)
    {
        public bool IsCommitted { get; set; }

        public bool IsPending => !IsCommitted && (Row is null || Row.IsUnsaved());
    }
}

/// <summary>Where a save has got to.</summary>
internal enum SaveStage
{
    /// <summary>Nothing was sent to the database.</summary>
    Begun,

    /// <summary>EF Core has begun a transaction for the save.</summary>
    TransactionBegun,

    /// <summary>EF Core has set a savepoint in the transaction the save takes part in.</summary>
    SavepointCreated,

    /// <summary>Its rows are written, if it had any.</summary>
    Saved,
}
