using System.Globalization;
using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus;
using Sagas.Api;
using Sagas.Contracts;
using Sagas.Data;
using Sagas.Saga;
using Sagas.Services;

namespace Sagas.Walkthrough;

/// <summary>What the steps do again and again.</summary>
public sealed class SagasStage(StageSetting setting, AnswerLimits limits) : Stage(setting)
{
    private const string Completed = nameof(OrderStateMachine.Completed);

    private readonly TimeSpan _usualLimit = limits.Shipping;

    public override SagasDb OpenDatabase() => new(Engines.OptionsOf<SagasDb>());

    /// <summary>From now on shipping may take that long to answer.</summary>
    public void LimitShipping(TimeSpan limit)
    {
        limits.Shipping = limit;
        Transcript.Say($"Shipping may now take {limit.TotalSeconds} s to answer");
    }

    public async Task TellAsync(Service service, Behaviour behaviour)
    {
        using var response = await PostAsync($"/services/{service}/{behaviour}".ToLowerInvariant());
        Transcript.Say($"From now on {Name(service)} {behaviour switch { Behaviour.Accept => "accepts", Behaviour.Refuse => "refuses", _ => "does not answer" }}");
    }

    /// <summary>All services accept again, within the usual limit.</summary>
    public override async Task ResetAsync()
    {
        limits.Shipping = _usualLimit;
        foreach (var service in Enum.GetValues<Service>())
        {
            using var response = await PostAsync($"/services/{service}/{Behaviour.Accept}".ToLowerInvariant());
        }
    }

    /// <summary>Places an order and checks that it was accepted.</summary>
    public async Task<Order> PlaceAsync(string customer, int quantity = 1)
    {
        using var response = await PostAsync("/orders", new PlaceOrder(customer, quantity), customer);
        if (!response.IsSuccessStatusCode)
            throw new PromiseBrokenException($"{customer}'s order is accepted", "201", ((int)response.StatusCode).ToString(CultureInfo.InvariantCulture));
        Accepted.Add(customer);
        return (await response.Content.ReadFromJsonAsync<Order>())!;
    }

    /// <summary>A service answers an order about which it has kept silent.</summary>
    public Task AnswerAsync(Service service, Behaviour answer, Order order) => AnswerAsync(service, answer, TimeSpan.Zero, [order]);

    /// <summary>The same for several orders, one shortly after the other, whatever has become of the one before.</summary>
    public async Task AnswerAsync(Service service, Behaviour answer, TimeSpan spacing, Order[] orders)
    {
        var responses = await Task.WhenAll(orders.Select(async (order, index) =>
        {
            await Task.Delay(spacing * index);
            return await PostAsync($"/orders/{order.Id}/{service}/{answer}".ToLowerInvariant());
        }));
        Transcript.Check($"{Name(service)} answers {(orders.Length == 1 ? $"{orders[0].Customer}'s order" : $"all {orders.Length} orders")}", orders.Length, responses.Count(response => response.IsSuccessStatusCode));
        foreach (var response in responses)
            response.Dispose();
    }

    /// <summary>Waits until a service has been asked about orders, whatever it does then.</summary>
    public Task WaitForQuestionsAsync(Service service, Order[] orders)
    {
        var ids = orders.Select(order => order.Id).ToList();
        return WaitAsync($"{Name(service)} is asked", async () =>
        {
            await using var db = OpenDatabase();
            return await db.Questions.CountAsync(question => question.Service == service && ids.Contains(question.OrderId)) == ids.Count;
        });
    }

    public Task WaitForStateAsync(Order order, string state)
        => WaitAsync($"{order.Customer}'s order becomes {state}", async () => (await StatusAsync(order.Id)).State == state);

    /// <summary>Waits until an order has come to an end and the outbox is empty, then checks its way and what it has moved.</summary>
    public async Task CheckEndAsync(Order order, string way)
    {
        var end = way.Split(' ')[^1];
        await WaitForStateAsync(order, end);
        await WaitForEmptyOutboxAsync();
        await CheckWayAsync(order, $"{order.Customer}'s order is {end}", way);
        await CheckBooksAsync(order, end);
    }

    public async Task CheckWayAsync(Order order, string promise, string way)
        => Transcript.Check($"{promise}: {way}", way, WayOf(await StatusAsync(order.Id)));

    /// <summary>Checks that a completed order is paid, reserved and shipped, and that nothing is left of any other.</summary>
    public async Task CheckBooksAsync(Order order, string end)
    {
        var promise = end == Completed ? "it is paid, reserved and shipped, once" : "no money, no goods and no parcel are left with it";
        Transcript.Check(promise, Due(order, end), Moved(await StatusAsync(order.Id)));
    }

    /// <summary>The same for several orders, each of which may have come to an end of its own.</summary>
    public async Task CheckBooksAsync(string promise, IReadOnlyCollection<Order> orders)
    {
        var statuses = new List<OrderStatus>();
        foreach (var order in orders)
            statuses.Add(await StatusAsync(order.Id));
        Transcript.Check(promise, string.Join("; ", statuses.Select(status => Due(status.Order, status.State))), string.Join("; ", statuses.Select(Moved)));
    }

    public async Task<OrderStatus> StatusAsync(Guid orderId)
    {
        await using var db = OpenDatabase();
        return await OrderStatus.FindAsync(db, orderId) ?? throw new PromiseBrokenException("the order is in the database", "1 order", "none");
    }

    /// <summary>How many timeouts wait in the outbox.</summary>
    public async Task<int> CountTimeoutsAsync()
    {
        await using var db = OpenDatabase();
        return await Timeouts(db).CountAsync();
    }

    /// <summary>When the first of them is due; null: there is none.</summary>
    public async Task<DateTime?> FirstTimeoutAsync()
    {
        await using var db = OpenDatabase();
        return await Timeouts(db).MinAsync(message => message.DueAt);
    }

    public static string WayOf(OrderStatus status) => string.Join(' ', status.History.Select(entry => entry.State));

    private static string Due(Order order, string end) => end == Completed ? Show(order.Cents, order.Quantity, 1) : Show(0, 0, 0);

    private static string Moved(OrderStatus status) => Show(status.CentsPaid, status.Reserved, status.Parcels);

    private static string Show(int cents, int reserved, int parcels) => $"{cents} cents, {reserved} piece(s), {parcels} parcel(s)";

    private static string Name(Service service) => service.ToString().ToLowerInvariant();

    private static IQueryable<Envelope> Timeouts(SagasDb db)
        => db.Set<Envelope>().Where(message => message.DueAt != null && message.MessageType.EndsWith(nameof(AnswerOverdue)));
}
