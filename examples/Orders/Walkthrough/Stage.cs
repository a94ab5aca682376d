using System.Diagnostics;
using System.Globalization;
using Microsoft.EntityFrameworkCore;
using Orders.Api;
using Orders.Data;
using Orders.Hosting;
using OutboxBus;

namespace Orders.Walkthrough;

/// <summary>What the steps act with: the running application, a client of it, its database, and the transcript.</summary>
public sealed class Stage(Engines engines, LogFile log, Accidents accidents, Transcript transcript, TimeSpan patience) : IAsyncDisposable
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(25);

    private readonly HttpClient _client = new();
    private WebApplication? _app;

    public Engines Engines => engines;

    public Accidents Accidents => accidents;

    public Transcript Transcript => transcript;

    /// <summary>Whose orders were accepted, as far as the walkthrough knows.</summary>
    public SortedSet<string> Accepted { get; } = new(StringComparer.Ordinal);

    public IServiceProvider Services => (_app ?? throw new InvalidOperationException("The application is not running.")).Services;

    public async Task StartAppAsync()
    {
        if (_app is not null)
            return;
        _app = OrdersApp.Build(engines, "http://127.0.0.1:0", log.Configure, accidents.FaultPoints);
        await _app.StartAsync();
    }

    public async Task StopAppAsync()
    {
        if (_app is null)
            return;
        await _app.StopAsync();
        await _app.DisposeAsync();
        _app = null;
    }

    public async Task<HttpResponseMessage> PostAsync(string path, PlaceOrder request)
    {
        var response = await _client.PostAsJsonAsync(new Uri(BaseAddress, path), request);
        transcript.Say($"POST {path} for {request.Customer} -> {(int)response.StatusCode} {response.ReasonPhrase}");
        return response;
    }

    /// <summary>Places an order and checks that it was accepted.</summary>
    public async Task<Order> PlaceAsync(string path, string customer)
    {
        using var response = await PostAsync(path, new PlaceOrder(customer, "teapot", 1));
        if (!response.IsSuccessStatusCode)
            throw new PromiseBrokenException($"{customer}'s order is accepted", "201", ((int)response.StatusCode).ToString(CultureInfo.InvariantCulture));
        Accepted.Add(customer);
        return (await response.Content.ReadFromJsonAsync<Order>())!;
    }

    public async Task<string> GetAsync(string path) => await _client.GetStringAsync(new Uri(BaseAddress, path));

    /// <summary>Waits until everything that follows from an order has happened and the outbox is empty, then checks that it has happened once.</summary>
    public async Task CheckProcessedOnceAsync(Order order)
    {
        await WaitAsync($"{order.Customer}'s order is delivered, reserved and confirmed", async () =>
            await StatusAsync(order.Id) is { Reservations: > 0, Confirmations: > 0, Notifications.Count: > 1 } && await OutboxCountAsync() == 0);
        await CheckEffectsAsync($"{order.Customer}'s order is delivered, reserved and confirmed, and the customer told of both, once", order.Id);
    }

    /// <summary>Checks what an order has caused, counted in the database.</summary>
    public async Task CheckEffectsAsync(string promise, Guid orderId, int times = 1)
    {
        var status = await StatusAsync(orderId);
        transcript.Check(promise, Effects(times, times, 2 * times), Effects(status.Reservations, status.Confirmations, status.Notifications.Count));
    }

    public Task WaitForEmptyOutboxAsync() => WaitAsync("the outbox is empty", async () => await OutboxCountAsync() == 0);

    /// <summary>Waits for a condition.</summary>
    /// <exception cref="PromiseBrokenException">It did not come true in time.</exception>
    public async Task WaitAsync(string promise, Func<Task<bool>> condition)
    {
        var started = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            if (Stopwatch.GetElapsedTime(started) > patience)
                throw new PromiseBrokenException(promise, $"within {patience.TotalSeconds} s", "not yet");
            await Task.Delay(PollInterval);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopAppAsync();
        _client.Dispose();
    }

    private Uri BaseAddress => new(_app!.Urls.Single());

    private static string Effects(int reservations, int confirmations, int notifications)
        => $"{reservations} reservation(s), {confirmations} confirmation(s), {notifications} notification(s)";

    private async Task<int> OutboxCountAsync()
    {
        await using var db = engines.OpenDatabase();
        return await db.Set<Envelope>().CountAsync();
    }

    private async Task<OrderStatus> StatusAsync(Guid orderId)
    {
        await using var db = engines.OpenDatabase();
        return await OrderStatus.FindAsync(db, orderId) ?? throw new PromiseBrokenException("the order is in the database", "1 order", "none");
    }
}
