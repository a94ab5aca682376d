using System.Globalization;
using Examples.Walkthrough;
using Orders.Api;
using Orders.Data;

namespace Orders.Walkthrough;

/// <summary>What the steps do again and again.</summary>
public sealed class OrdersStage(StageSetting setting) : Stage(setting)
{
    public override OrdersDb OpenDatabase() => new(Engines.OptionsOf<OrdersDb>());

    public Task<HttpResponseMessage> PostAsync(string path, PlaceOrder request) => PostAsync(path, request, request.Customer);

    /// <summary>Places an order and checks that it was accepted.</summary>
    public async Task<Order> PlaceAsync(string path, string customer)
    {
        using var response = await PostAsync(path, new PlaceOrder(customer, "teapot", 1));
        if (!response.IsSuccessStatusCode)
            throw new PromiseBrokenException($"{customer}'s order is accepted", "201", ((int)response.StatusCode).ToString(CultureInfo.InvariantCulture));
        Accepted.Add(customer);
        return (await response.Content.ReadFromJsonAsync<Order>())!;
    }

    /// <summary>Waits until everything that follows from an order has happened and the outbox is empty, then checks that it has happened once.</summary>
    public async Task CheckProcessedOnceAsync(Order order)
    {
        await WaitAsync($"{order.Customer}'s order is delivered, reserved and confirmed", async () =>
            await StatusAsync(order.Id) is { Reservations: > 0, Confirmations: > 0, Notifications.Count: > 1 } && await CountOutboxAsync() == 0);
        await CheckEffectsAsync($"{order.Customer}'s order is delivered, reserved and confirmed, and the customer told of both, once", order.Id);
    }

    /// <summary>Checks what an order has caused, counted in the database.</summary>
    public async Task CheckEffectsAsync(string promise, Guid orderId, int times = 1)
    {
        var status = await StatusAsync(orderId);
        Transcript.Check(promise, Effects(times, times, 2 * times), Effects(status.Reservations, status.Confirmations, status.Notifications.Count));
    }

    private static string Effects(int reservations, int confirmations, int notifications)
        => $"{reservations} reservation(s), {confirmations} confirmation(s), {notifications} notification(s)";

    private async Task<OrderStatus> StatusAsync(Guid orderId)
    {
        await using var db = OpenDatabase();
        return await OrderStatus.FindAsync(db, orderId) ?? throw new PromiseBrokenException("the order is in the database", "1 order", "none");
    }
}
