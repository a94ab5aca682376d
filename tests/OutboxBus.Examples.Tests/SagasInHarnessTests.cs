using System.Net.Http.Json;
using System.Text.Json;
using Examples.Hosting;
using FluentAssertions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.TestHost;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using OutboxBus.TestServers;
using Sagas.Contracts;
using Sagas.Hosting;
using Sagas.Saga;
using Xunit;

namespace OutboxBus.Examples.Tests;

// How an application tests its sagas: its own registration on the harness, no servers, and no waiting for timeouts.
public sealed class SagasInHarnessTests
{
    private static readonly AnswerLimits s_limits = new();

    [Fact]
    public async Task An_order_is_completed_and_no_timeout_is_left()
    {
        await using var app = await StartAsync();
        var (client, harness) = (app.GetTestClient(), app.Services.GetOutboxBusTestHarness());

        var order = await PlaceAsync(client);
        await harness.DrainAsync();
        await harness.AdvanceAsync(s_limits.Shipping * 2);

        (await StateAsync(client, order)).Should().Be("Completed");
        harness.Captured.Of<AnswerOverdue>().Should().HaveCount(3, "a timeout is scheduled with each question");
        harness.Delivered.Of<AnswerOverdue>().Should().BeEmpty("each answer takes its timeout back");
        harness.Delivered.All.Select(delivered => delivered.Message.GetType()).Should().Equal(
            typeof(OrderSubmitted), typeof(RequestPayment), typeof(PaymentAccepted), typeof(ReserveStock), typeof(StockReserved), typeof(ShipOrder), typeof(OrderShipped));
    }

    [Fact]
    public async Task An_order_is_cancelled_when_its_time_is_over_and_not_before()
    {
        await using var app = await StartAsync();
        var (client, harness) = (app.GetTestClient(), app.Services.GetOutboxBusTestHarness());
        await client.PostAsync("services/shipping/silent", content: null);

        var order = await PlaceAsync(client);
        await harness.DrainAsync();
        await harness.AdvanceAsync(s_limits.Shipping / 2);
        (await StateAsync(client, order)).Should().Be("AwaitingShipment");
        await harness.AdvanceAsync(s_limits.Shipping);

        (await StateAsync(client, order)).Should().Be("Cancelled");
        harness.Consumed.Of<AnswerOverdue>().Should().ContainSingle();
        harness.Delivered.Of<RefundPayment>().Should().ContainSingle();
        harness.Delivered.Of<ReleaseStock>().Should().ContainSingle();
    }

    [Fact]
    public async Task An_answer_in_the_last_moment_completes_the_order()
    {
        await using var app = await StartAsync();
        var (client, harness) = (app.GetTestClient(), app.Services.GetOutboxBusTestHarness());
        await client.PostAsync("services/shipping/silent", content: null);

        var order = await PlaceAsync(client);
        await harness.DrainAsync();
        await harness.AdvanceAsync(s_limits.Shipping / 2);
        (await client.PostAsync($"{order}/shipping/accept", content: null)).EnsureSuccessStatusCode();
        await harness.DrainAsync();
        await harness.AdvanceAsync(s_limits.Shipping);

        (await StateAsync(client, order)).Should().Be("Completed");
        harness.Delivered.Of<AnswerOverdue>().Should().BeEmpty();
    }

    [Fact]
    public async Task Events_delivered_twice_move_the_saga_once()
    {
        await using var app = await StartAsync();
        var (client, harness) = (app.GetTestClient(), app.Services.GetOutboxBusTestHarness());
        harness.Faults.DeliverTwice<PaymentAccepted>();
        harness.Faults.DeliverTwice<OrderShipped>();

        var order = await PlaceAsync(client);
        await harness.DrainAsync();

        harness.Consumptions.All.Where(consumed => consumed.IsDuplicate).Select(consumed => consumed.Message.GetType()).Should().BeEquivalentTo([typeof(PaymentAccepted), typeof(OrderShipped)]);
        harness.Captured.Of<ReserveStock>().Should().ContainSingle();
        (await StateAsync(client, order)).Should().Be("Completed");
    }

    private static async Task<WebApplication> StartAsync()
    {
        var builder = WebApplication.CreateBuilder();
        builder.WebHost.UseTestServer();
        builder.Logging.ClearProviders();
        // The harness takes the place of the engines; none of these exists.
        builder.Services.AddFulfilment(new Engines("", "Host=nowhere", "", "amqp://nowhere"), s_limits);
        builder.Services.AddOutboxBusTestHarness(harness => harness.TimeLimit = Eventually.Limit);
        var app = builder.Build();
        app.MapFulfilment();
        await app.StartAsync();
        return app;
    }

    private static async Task<string> PlaceAsync(HttpClient client)
    {
        var response = await client.PostAsJsonAsync("orders", new { customer = "Ann", quantity = 1 });
        return response.EnsureSuccessStatusCode().Headers.Location!.OriginalString;
    }

    private static async Task<string?> StateAsync(HttpClient client, string order)
        => (await client.GetFromJsonAsync<JsonElement>(order)).GetProperty("state").GetString();
}
