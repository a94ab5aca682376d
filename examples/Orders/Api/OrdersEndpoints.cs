using Microsoft.EntityFrameworkCore;
using Orders.Data;
using OutboxBus;

namespace Orders.Api;

/// <summary>The same as a minimal API: the outbox is one more parameter.</summary>
public static class OrdersEndpoints
{
    public static void MapOrders(this IEndpointRouteBuilder routes)
    {
        routes.MapPost("/v2/orders", async (PlaceOrder request, OrdersDb db, IOutboxContext outbox, CancellationToken cancellationToken) =>
        {
            var order = request.ToOrder();
            db.Orders.Add(order);
            await outbox.Publish(order.Placed(), cancellationToken: cancellationToken);
            await db.SaveChangesAsync(cancellationToken);
            return Results.Created($"/orders/{order.Id}", order);
        });

        routes.MapGet("/state", async (OrdersDb db, CancellationToken cancellationToken) => new State(
            await db.Orders.CountAsync(cancellationToken),
            await db.Reservations.CountAsync(cancellationToken),
            await db.Confirmations.CountAsync(cancellationToken),
            await db.Notifications.CountAsync(cancellationToken),
            await db.Set<Envelope>().CountAsync(cancellationToken),
            await db.Set<DeadLetter>().CountAsync(cancellationToken)));
    }
}

/// <summary>How many rows there are.</summary>
public sealed record State(int Orders, int Reservations, int Confirmations, int Notifications, int Outbox, int DeadLetters);
