using Microsoft.AspNetCore.Mvc.Testing;
using Microsoft.AspNetCore.TestHost;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Testing.Shop;
using Xunit;

namespace OutboxBus.Testing.Tests;

// As the README shows it, on the application's own Program.
public sealed class ReadmeTests
{
    [Fact]
    public async Task An_unpaid_order_is_cancelled_after_a_day()
    {
        await using var factory = new WebApplicationFactory<Program>().WithWebHostBuilder(host =>
            host.ConfigureTestServices(services => services.AddOutboxBusTestHarness()));
        var client = factory.CreateClient();
        var harness = factory.Services.GetOutboxBusTestHarness();

        await client.PostAsync("/orders/shoes", null);
        await harness.DrainAsync();                                 // until everything is delivered and consumed
        await harness.AdvanceAsync(TimeSpan.FromDays(1));           // schedules, delays and back-offs; takes milliseconds

        Assert.Single(harness.Delivered.Of<OrderCancelled>());
        harness.ThrowIfBypassed();                                  // nothing went past the outbox
    }
}
