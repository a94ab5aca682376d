using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// Envelopes saved with <c>acceptAllChangesOnSuccess: false</c> in a transaction that may come to nothing. Like the
/// caller's own rows they stay in the change tracker as added, to be saved again if it does.
/// </summary>
internal sealed class UnacceptedEnvelopes(DbContext context)
{
    private readonly List<Envelope> _envelopes = [];

    public bool Any => _envelopes.Count > 0;

    public void Add(Envelope envelope) => _envelopes.Add(envelope);

    public void Clear() => _envelopes.Clear();

    /// <summary>The tokens of those that were scheduled.</summary>
    public IReadOnlyCollection<Guid> ScheduleTokens() => [.. Tracked().Select(entry => entry.Entity.ScheduleToken).OfType<Guid>()];

    /// <summary>Those scheduled with the token are cancelled: nobody is to save them again.</summary>
    public void Forget(Guid scheduleToken)
    {
        foreach (var entry in Tracked().Where(entry => entry.Entity.ScheduleToken == scheduleToken))
            entry.State = EntityState.Detached;
        _envelopes.RemoveAll(envelope => envelope.ScheduleToken == scheduleToken);
    }

    /// <summary>Their transaction has committed: nobody is to save them again.</summary>
    public void Detach()
    {
        foreach (var entry in Tracked())
            entry.State = EntityState.Detached;
        _envelopes.Clear();
    }

    /// <summary>The caller saves again: lets all of them go and returns those whose rows are not there.</summary>
    public List<Envelope> TakeLost() => TakeLost([.. Tracked().Select(entry => (entry, entry.GetDatabaseValues()))]);

    /// <inheritdoc cref="TakeLost()"/>
    public async Task<List<Envelope>> TakeLostAsync(CancellationToken cancellationToken)
    {
        var asked = new List<(EntityEntry<Envelope>, PropertyValues?)>();
        foreach (var entry in Tracked())
            asked.Add((entry, await entry.GetDatabaseValuesAsync(cancellationToken).ConfigureAwait(false)));
        return TakeLost(asked);
    }

    // Only when all rows have been asked for: a question that fails must leave everything as it was.
    private List<Envelope> TakeLost(List<(EntityEntry<Envelope> Entry, PropertyValues? Stored)> asked)
    {
        var lost = new List<Envelope>();
        foreach (var (entry, stored) in asked)
        {
            // Accepted by now: the caller knows that it was committed.
            var accepted = entry.State != EntityState.Added;
            var envelope = entry.Entity;
            entry.State = EntityState.Detached;
            if (!accepted && stored?.GetValue<Guid>(nameof(Envelope.MessageId)) != envelope.MessageId)
                lost.Add(envelope);
        }

        _envelopes.Clear();
        return lost;
    }

    /// <summary>Those still in the change tracker: the caller may have cleared it.</summary>
    private List<EntityEntry<Envelope>> Tracked() => [.. _envelopes.Select(context.Entry).Where(entry => entry.State != EntityState.Detached)];
}
