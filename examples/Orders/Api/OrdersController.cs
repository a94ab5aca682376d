using Microsoft.AspNetCore.Mvc;
using Orders.Data;
using OutboxBus;

namespace Orders.Api;

[ApiController]
[Route("orders")]
public sealed class OrdersController(OrdersDb db, IOutboxContext outbox) : ControllerBase
{
    [HttpPost]
    public async Task<ActionResult<Order>> Place(PlaceOrder request, CancellationToken cancellationToken)
    {
        var order = request.ToOrder();
        db.Orders.Add(order);
        // Publish first, then save: the message is stored in the transaction of this SaveChanges and sent after its commit.
        await outbox.Publish(order.Placed(), cancellationToken: cancellationToken);
        await db.SaveChangesAsync(cancellationToken);
        return Created($"/orders/{order.Id}", order);
    }

    [HttpGet("{id:guid}")]
    public async Task<ActionResult<OrderStatus>> Find(Guid id, CancellationToken cancellationToken)
        => await OrderStatus.FindAsync(db, id, cancellationToken) is { } status ? status : NotFound();
}
