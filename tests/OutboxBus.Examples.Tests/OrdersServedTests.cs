using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using FluentAssertions;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Examples.Tests;

public sealed class OrdersServedTests
{
    [Fact]
    public async Task Orders_placed_over_HTTP_are_reserved_and_confirmed()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Orders");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        await PlaceAndFollowAsync(client, "orders");
        await PlaceAndFollowAsync(client, "v2/orders");

        (await client.GetStringAsync("health")).Should().Be("Healthy");
        await Eventually.BecomesAsync(async () => (await client.GetFromJsonAsync<JsonElement>("state")).GetProperty("outbox").GetInt32() == 0, "the outbox is empty");
        var state = await client.GetFromJsonAsync<JsonElement>("state");
        state.GetRawText().Should().Be("""{"orders":2,"reservations":2,"confirmations":2,"notifications":4,"outbox":0,"deadLetters":0}""");
        process.Printed.Should().Contain($"curl -i {address.OriginalString}/orders");
    }

    [Fact]
    public async Task An_order_the_database_refuses_is_a_conflict_without_a_message()
    {
        var (process, address) = await ExampleProcess.ServeAsync("Orders");
        await using var _ = process;
        using var client = new HttpClient { BaseAddress = address };

        var response = await client.PostAsJsonAsync("orders", new { customer = "Ann", product = "teapot", quantity = 0 });

        response.StatusCode.Should().Be(HttpStatusCode.Conflict);
        var state = await client.GetFromJsonAsync<JsonElement>("state");
        state.GetProperty("outbox").GetInt32().Should().Be(0);
        (await client.GetAsync($"orders/{Guid.NewGuid()}")).StatusCode.Should().Be(HttpStatusCode.NotFound);
    }

    [SkippableFact]
    public async Task Orders_survive_a_restart_beside_the_tables_of_others()
    {
        var postgres = await Servers.PostgresDatabaseAsync("example");
        await Databases.ExecuteAsync(postgres, "create table orders (note text)");
        await Databases.ExecuteAsync(postgres, "insert into orders values ('of somebody else')");

        string order;
        var (first, firstAddress) = await ExampleProcess.ServeAsync("Orders", "--postgres", postgres, "--schema", "shop");
        await using (first)
        {
            using var client = new HttpClient { BaseAddress = firstAddress };
            order = await PlaceAndFollowAsync(client, "orders");
        }

        var (second, secondAddress) = await ExampleProcess.ServeAsync("Orders", "--postgres", postgres, "--schema", "shop");
        await using (second)
        {
            using var client = new HttpClient { BaseAddress = secondAddress };
            (await client.GetFromJsonAsync<JsonElement>(order)).GetProperty("confirmations").GetInt32().Should().Be(1);
        }

        // Succeeds only while the other table is what it was.
        await Databases.ExecuteAsync(postgres, "do $$ begin assert (select count(*) from public.orders where note = 'of somebody else') = 1; end $$");
    }

    private static async Task<string> PlaceAndFollowAsync(HttpClient client, string path)
    {
        var response = await client.PostAsJsonAsync(path, new { customer = "Ann", product = "teapot", quantity = 2 });
        response.StatusCode.Should().Be(HttpStatusCode.Created);
        var order = response.Headers.Location!.OriginalString;

        await Eventually.BecomesAsync(async () =>
            (await client.GetFromJsonAsync<JsonElement>(order)).GetProperty("notifications").EnumerateArray()
                .Any(text => text.GetString() == "Dear Ann, your order is confirmed."), "Ann is told");
        var status = await client.GetFromJsonAsync<JsonElement>(order);
        status.GetProperty("reservations").GetInt32().Should().Be(1);
        status.GetProperty("confirmations").GetInt32().Should().Be(1);
        return order;
    }
}
