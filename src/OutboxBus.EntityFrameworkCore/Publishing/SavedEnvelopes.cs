using System.Data;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Delivery;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// Envelopes whose rows are written: kept until their transaction has ended, then handed off, with what is known of the commit.
/// </summary>
internal sealed class SavedEnvelopes(DbContext context, HandOff handOff, TimeProvider time)
{
    // Saved inside a transaction that has not ended.
    private readonly List<Envelope> _awaitingCommit = [];
    private Guid _awaitedTransaction;
    private long _savedFrom;

    /// <summary>Whether any are saved in a transaction that has not ended.</summary>
    public bool AnyAwaiting => _awaitingCommit.Count > 0;

    /// <summary>Whether nothing but EF Core itself can decide about the commit of the save under way.</summary>
    public bool CommitIsEvident { get; private set; }

    /// <summary>Whether the save under way takes part in a transaction that was there before it.</summary>
    public bool HasTransaction { get; private set; }

    /// <summary>Whether any await the end of this transaction.</summary>
    public bool IsAwaited(Guid transaction) => AnyAwaiting && _awaitedTransaction == transaction;

    /// <summary>A save begins.</summary>
    public void SaveBegins()
    {
        // The end of a transaction that was disposed without commit, or ended by others, raises no event.
        OfferEnded();
        HasTransaction = context.HasTransaction();
        // A raw BEGIN needs an open connection.
        CommitIsEvident = !HasTransaction && context.Database.GetDbConnection().State == ConnectionState.Closed;
        // Of several saves in one transaction the first: no row's lease may be taken to last longer than it does.
        if (!AnyAwaiting)
            _savedFrom = time.GetTimestamp();
    }

    /// <summary>Takes what a save has written: hands it off, or keeps it until its transaction has ended.</summary>
    public void Add(IReadOnlyList<Envelope> saved)
    {
        var savedFrom = _savedFrom;
        if (context.Database.CurrentTransaction is { } transaction)
        {
            _awaitedTransaction = transaction.TransactionId;
            _awaitingCommit.AddRange(saved);
        }
        else if (context.AmbientTransaction() is { } ambient)
        {
            ambient.TransactionCompleted += (_, _) => handOff.Offer(saved, CommitCertainty.Unverified, savedFrom);
        }
        else
        {
            handOff.Offer(saved, CommitIsEvident ? CommitCertainty.Proven : CommitCertainty.Unverified, savedFrom);
        }
    }

    /// <summary>Those scheduled with one of the tokens are deleted again, in the transaction they were saved in.</summary>
    public void Remove(IReadOnlyCollection<Guid> scheduleTokens)
        => _awaitingCommit.RemoveAll(envelope => envelope.ScheduleToken is { } token && scheduleTokens.Contains(token));

    /// <summary>Their transaction has ended, or most likely has: hands them off.</summary>
    public void Offer(CommitCertainty certainty)
    {
        handOff.Offer([.. _awaitingCommit], certainty, _savedFrom);
        _awaitingCommit.Clear();
    }

    /// <summary>Their transaction has come to nothing: they never existed.</summary>
    public void Clear() => _awaitingCommit.Clear();

    /// <summary>The scope turns to another context. A transaction disposed without a commit has raised no event, and would be waited for until the scope ends.</summary>
    public void EnlistmentEnds()
    {
        try
        {
            OfferEnded();
        }
        catch (ObjectDisposedException)
        {
            // And with the context its transaction.
            Offer(CommitCertainty.Unverified);
        }
    }

    private void OfferEnded()
    {
        if (AnyAwaiting && context.Database.CurrentTransaction?.TransactionId != _awaitedTransaction)
            Offer(CommitCertainty.Unverified);
    }
}
