using Sagas.Contracts;
using Sagas.Data;

namespace Sagas.Api;

/// <summary>The body of a request that places an order.</summary>
public sealed record PlaceOrder(string Customer, int Quantity)
{
    private const int CentsEach = 1_250;

    public Order ToOrder() => new()
    {
        Id = Guid.CreateVersion7(),
        Customer = Customer,
        Product = SagasDb.Product,
        Quantity = Quantity,
        Cents = Quantity * CentsEach,
    };
}

public static class OrderMessages
{
    public static OrderSubmitted Submitted(this Order order) => new(order.Id, order.Customer, order.Product, order.Quantity, order.Cents);
}
