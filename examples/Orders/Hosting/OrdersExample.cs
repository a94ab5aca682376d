using Examples.Hosting;
using Examples.Walkthrough;
using Orders.Api;
using Orders.Data;
using Orders.Walkthrough;
using Orders.Walkthrough.Steps;
using OutboxBus.Diagnostics;

namespace Orders.Hosting;

/// <summary>Tells the code that all examples share what is this one's own.</summary>
public sealed class OrdersExample : Example<OrdersStage>
{
    public override string Name => "orders";

    public override string Description => "orders over an outbox.";

    public override IReadOnlyList<IStep<OrdersStage>> Steps { get; } =
    [
        new PlacedOrders(),
        new FailedTransaction(),
        new DuplicateDelivery(),
        new BrokerOutage(),
        new KilledProcess(),
        new FinalCount(),
    ];

    public override OrdersDb OpenDatabase(Engines engines) => new(engines.OptionsOf<OrdersDb>());

    public override WebApplication Build(Engines engines, string url, Action<ILoggingBuilder> configureLogging, FaultPoints? faults)
        => OrdersApp.Build(engines, url, configureLogging, faults);

    public override IEnumerable<string> Hints(string address) =>
    [
        $$"""Try: curl -i {{address}}/orders -H 'content-type: application/json' -d '{"customer":"Ann","product":"teapot","quantity":1}'""",
        $"then {address}/orders/<id>, {address}/state and {address}/health; POST {address}/v2/orders is the minimal API.",
    ];

    public override OrdersStage CreateStage(StageSetting setting) => new(setting);

    public override async Task BeVictimAsync(WebApplication app, HttpClient client, Accidents accidents, string customer, bool survives)
    {
        if (!survives)
        {
            accidents.OnNextCommit(() =>
            {
                Accidents.KillThisProcess();
                return Task.CompletedTask;
            });
        }

        using var response = await client.PostAsJsonAsync(new Uri("/orders", UriKind.Relative), new PlaceOrder(customer, "teapot", 1));
    }
}
