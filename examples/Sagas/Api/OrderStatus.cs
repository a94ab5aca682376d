using Microsoft.EntityFrameworkCore;
using Sagas.Data;
using Sagas.Saga;

namespace Sagas.Api;

/// <summary>How far one order has come, and what it has moved so far.</summary>
/// <param name="Order">What was ordered.</param>
/// <param name="State">The state of its saga; "Submitted" until that has begun.</param>
/// <param name="Payment">What has become of the payment.</param>
/// <param name="Stock">What has become of the goods.</param>
/// <param name="Shipping">What has become of the parcel.</param>
/// <param name="History">Each state it has been in, with the event that led there.</param>
/// <param name="CentsPaid">What the customer has paid and not got back.</param>
/// <param name="Reserved">How many pieces are set aside.</param>
/// <param name="Parcels">How many parcels are out.</param>
public sealed record OrderStatus(
    Order Order, string State, Leg Payment, Leg Stock, Leg Shipping, IReadOnlyList<HistoryEntry> History, int CentsPaid, int Reserved, int Parcels)
{
    public static async Task<OrderStatus?> FindAsync(SagasDb db, Guid id, CancellationToken cancellationToken = default)
    {
        if (await db.Orders.AsNoTracking().SingleOrDefaultAsync(order => order.Id == id, cancellationToken) is not { } order)
            return null;
        var state = await db.States.AsNoTracking().Include(saga => saga.History).SingleOrDefaultAsync(saga => saga.CorrelationId == id, cancellationToken);
        return new OrderStatus(
            order,
            state?.CurrentState ?? "Submitted",
            state?.Payment ?? Leg.None,
            state?.Stock ?? Leg.None,
            state?.Shipping ?? Leg.None,
            [.. (state?.History ?? []).OrderBy(entry => entry.Id)],
            await db.Payments.Where(row => row.OrderId == id).SumAsync(row => row.Cents, cancellationToken),
            -await db.StockEntries.Where(row => row.OrderId == id).SumAsync(row => row.Quantity, cancellationToken),
            await db.Parcels.Where(row => row.OrderId == id).SumAsync(row => row.Parcels, cancellationToken));
    }
}
