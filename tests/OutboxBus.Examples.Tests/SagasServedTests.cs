using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using FluentAssertions;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class SagasServedTests
{
    private const int CentsEach = 1_250;

    [Fact]
    public async Task An_order_placed_over_HTTP_is_paid_reserved_and_shipped()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Sagas");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        var order = await PlaceAsync(client, quantity: 3);
        await BecomesAsync(client, order, "Completed");

        var status = await client.GetFromJsonAsync<JsonElement>(order);
        HistoryOf(status).Should().Equal(
            "AwaitingPayment after OrderSubmitted", "AwaitingStock after PaymentAccepted", "AwaitingShipment after StockReserved", "Completed after OrderShipped");
        status.GetProperty("shipping").GetString().Should().Be("Done");
        (await client.GetStringAsync("health")).Should().Be("Healthy");
        await BooksBecomeAsync(client, $$$"""{"states":{"Completed":1},"centsPaid":{{{3 * CentsEach}}},"onHand":97,"parcels":1,"outbox":0,"deadLetters":0}""");
        process.Printed.Should().Contain($"curl -i {address.OriginalString}/orders");
    }

    [Fact]
    public async Task A_refused_payment_rejects_the_order()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Sagas");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        await PostAsync(client, "services/payment/refuse", HttpStatusCode.OK);
        await BecomesAsync(client, await PlaceAsync(client), "Rejected");

        await BooksBecomeAsync(client, """{"states":{"Rejected":1},"centsPaid":0,"onHand":100,"parcels":0,"outbox":0,"deadLetters":0}""");
    }

    [Fact]
    public async Task A_service_that_does_not_answer_cancels_the_order_and_a_late_answer_is_undone()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Sagas", "--shipping-limit", "0.5");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        await PostAsync(client, "services/shipping/silent", HttpStatusCode.OK);
        var order = await PlaceAsync(client);
        await BecomesAsync(client, order, "Cancelled");
        HistoryOf(await client.GetFromJsonAsync<JsonElement>(order)).Should().ContainInOrder("AwaitingShipment after StockReserved", "Cancelling after AnswerOverdue");

        // A conflict until shipping has been asked, which need not be before the timeout.
        await Eventually.BecomesAsync(async () => (await client.PostAsync($"{order}/shipping/accept", content: null)).StatusCode == HttpStatusCode.OK, "shipping answers");
        await Eventually.BecomesAsync(async () => (await client.GetFromJsonAsync<JsonElement>(order)).GetProperty("shipping").GetString() == "Undone", "the parcel is recalled");
        await BecomesAsync(client, order, "Cancelled");
        await BooksBecomeAsync(client, """{"states":{"Cancelled":1},"centsPaid":0,"onHand":100,"parcels":0,"outbox":0,"deadLetters":0}""");
    }

    [Fact]
    public async Task A_silent_service_answers_when_it_is_told_to_and_only_once()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Sagas");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        await PostAsync(client, "services/stock/silent", HttpStatusCode.OK);
        var order = await PlaceAsync(client);
        await BecomesAsync(client, order, "AwaitingStock");
        await BooksBecomeAsync(client, $$$"""{"states":{"AwaitingStock":1},"centsPaid":{{{CentsEach}}},"onHand":100,"parcels":0,"outbox":1,"deadLetters":0}""");

        await PostAsync(client, $"{order}/shipping/accept", HttpStatusCode.Conflict);
        await PostAsync(client, $"{order}/stock/accept", HttpStatusCode.OK);
        await PostAsync(client, $"{order}/stock/accept", HttpStatusCode.Conflict);

        await BecomesAsync(client, order, "Completed");
        await BooksBecomeAsync(client, $$$"""{"states":{"Completed":1},"centsPaid":{{{CentsEach}}},"onHand":99,"parcels":1,"outbox":0,"deadLetters":0}""");
    }

    [Fact]
    public async Task What_nobody_knows_is_not_found_or_refused()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Sagas");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        (await client.GetAsync($"orders/{Guid.NewGuid()}")).StatusCode.Should().Be(HttpStatusCode.NotFound);
        (await client.PostAsJsonAsync("orders", new { customer = "Ann", quantity = 0 })).StatusCode.Should().Be(HttpStatusCode.Conflict);
        await PostAsync(client, "services/payment/nonsense", HttpStatusCode.BadRequest);
        await BooksBecomeAsync(client, """{"states":{},"centsPaid":0,"onHand":100,"parcels":0,"outbox":0,"deadLetters":0}""");
    }

    private static async Task<string> PlaceAsync(HttpClient client, int quantity = 1)
    {
        var response = await client.PostAsJsonAsync("orders", new { customer = "Ann", quantity });
        response.StatusCode.Should().Be(HttpStatusCode.Created);
        return response.Headers.Location!.OriginalString;
    }

    private static async Task PostAsync(HttpClient client, string path, HttpStatusCode expected)
        => (await client.PostAsync(path, content: null)).StatusCode.Should().Be(expected, path);

    private static Task BecomesAsync(HttpClient client, string order, string state)
        => Eventually.BecomesAsync(async () => (await client.GetFromJsonAsync<JsonElement>(order)).GetProperty("state").GetString() == state, $"the order is {state}");

    private static async Task BooksBecomeAsync(HttpClient client, string books)
    {
        // What has been sent is deleted a moment later.
        await Eventually.BecomesAsync(async () => await client.GetStringAsync("books") == books, $"the books are {books}");
    }

    private static IEnumerable<string> HistoryOf(JsonElement status)
        => status.GetProperty("history").EnumerateArray().Select(entry => $"{entry.GetProperty("state").GetString()} after {entry.GetProperty("event").GetString()}");
}
