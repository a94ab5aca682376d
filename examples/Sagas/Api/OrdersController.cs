using Microsoft.AspNetCore.Mvc;
using OutboxBus;
using Sagas.Data;

namespace Sagas.Api;

[ApiController]
[Route("orders")]
public sealed class OrdersController(SagasDb db, IOutboxContext outbox) : ControllerBase
{
    /// <summary>The order and the message that begins its saga are one transaction.</summary>
    [HttpPost]
    public async Task<ActionResult<Order>> Place(PlaceOrder request, CancellationToken cancellationToken)
    {
        var order = request.ToOrder();
        db.Orders.Add(order);
        await outbox.Publish(order.Submitted(), cancellationToken: cancellationToken);
        await db.SaveChangesAsync(cancellationToken);
        return Created($"/orders/{order.Id}", order);
    }

    [HttpGet("{id:guid}")]
    public async Task<ActionResult<OrderStatus>> Find(Guid id, CancellationToken cancellationToken)
        => await OrderStatus.FindAsync(db, id, cancellationToken) is { } status ? status : NotFound();
}
