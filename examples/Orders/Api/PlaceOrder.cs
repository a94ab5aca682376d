using Orders.Contracts;
using Orders.Data;

namespace Orders.Api;

/// <summary>The body of a request that places an order.</summary>
public sealed record PlaceOrder(string Customer, string Product, int Quantity)
{
    public Order ToOrder() => new() { Id = Guid.CreateVersion7(), Customer = Customer, Product = Product, Quantity = Quantity };
}

public static class OrderMessages
{
    public static OrderPlaced Placed(this Order order) => new(order.Id, order.Customer, order.Product, order.Quantity);
}
