using Microsoft.EntityFrameworkCore;
using OutboxBus;
using Sagas.Data;

namespace Sagas.Api;

/// <summary>Everything added up.</summary>
/// <param name="States">How many orders are in which state.</param>
/// <param name="CentsPaid">What all customers have paid and not got back.</param>
/// <param name="OnHand">What is in the warehouse and not set aside.</param>
/// <param name="Parcels">How many parcels are out.</param>
/// <param name="Outbox">How many messages wait, scheduled ones included.</param>
/// <param name="DeadLetters">How many were given up.</param>
public sealed record Books(IReadOnlyDictionary<string, int> States, int CentsPaid, int OnHand, int Parcels, int Outbox, int DeadLetters)
{
    public static async Task<Books> ReadAsync(SagasDb db, CancellationToken cancellationToken = default) => new(
        new SortedDictionary<string, int>(
            await db.States.GroupBy(saga => saga.CurrentState).ToDictionaryAsync(state => state.Key, state => state.Count(), cancellationToken), StringComparer.Ordinal),
        await db.Payments.SumAsync(row => row.Cents, cancellationToken),
        await db.Stock.SumAsync(row => row.OnHand, cancellationToken),
        await db.Parcels.SumAsync(row => row.Parcels, cancellationToken),
        await db.Set<Envelope>().CountAsync(cancellationToken),
        await db.Set<DeadLetter>().CountAsync(cancellationToken));
}
