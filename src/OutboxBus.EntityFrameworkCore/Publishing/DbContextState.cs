using System.Transactions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>What a save finds in its context.</summary>
internal static class DbContextState
{
    /// <summary>The transaction of System.Transactions in which the context takes part or would; null: none.</summary>
    public static Transaction? AmbientTransaction(this DbContext context) => context.Database.GetEnlistedTransaction() ?? Transaction.Current;

    /// <summary>Whether what is saved now takes part in a transaction, as far as EF Core knows: of a raw BEGIN it does not.</summary>
    public static bool HasTransaction(this DbContext context) => context.Database.CurrentTransaction is not null || context.AmbientTransaction() is not null;

    /// <summary>The first row of a save that is not accepted as saved; without looking for changes, which may be younger than the save. Null: there is none.</summary>
    public static EntityEntry? FindUnsavedRow(this DbContext context, Func<object, bool> predicate)
    {
        var detects = context.ChangeTracker.AutoDetectChangesEnabled;
        context.ChangeTracker.AutoDetectChangesEnabled = false;
        try
        {
            return context.ChangeTracker.Entries().FirstOrDefault(entry => entry.IsUnsaved() && predicate(entry.Entity));
        }
        finally
        {
            context.ChangeTracker.AutoDetectChangesEnabled = detects;
        }
    }

    /// <summary>Whether a save is to write the row, or was.</summary>
    public static bool IsUnsaved(this EntityEntry entry) => entry.State is EntityState.Added or EntityState.Modified or EntityState.Deleted;
}

/// <summary>
/// Whether saves accept their changes, as their callers have asked: otherwise what was saved may be saved again. Null: of
/// the save under way it is not known, as nobody has listened when it began.
/// </summary>
internal sealed class SaveAcceptance(DbContext context)
{
    private bool _listens;

    public bool? OfSave { get; private set; }

    public void Listen()
    {
        if (!_listens)
            context.SavingChanges += (_, save) => OfSave = save.AcceptAllChangesOnSuccess;
        _listens = true;
    }
}
