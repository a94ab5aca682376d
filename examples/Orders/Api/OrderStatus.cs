using Microsoft.EntityFrameworkCore;
using Orders.Data;

namespace Orders.Api;

/// <summary>What has become of one order so far.</summary>
public sealed record OrderStatus(Order Order, int Reservations, int Confirmations, IReadOnlyList<string> Notifications)
{
    public static async Task<OrderStatus?> FindAsync(OrdersDb db, Guid id, CancellationToken cancellationToken = default)
        => await db.Orders.AsNoTracking().SingleOrDefaultAsync(order => order.Id == id, cancellationToken) is { } order
            ? new OrderStatus(
                order,
                await db.Reservations.CountAsync(row => row.OrderId == id, cancellationToken),
                await db.Confirmations.CountAsync(row => row.OrderId == id, cancellationToken),
                await db.Notifications.Where(row => row.OrderId == id).OrderBy(row => row.Id).Select(row => row.Text).ToListAsync(cancellationToken))
            : null;
}
