using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Examples.Hosting;
using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Diagnostics;
using Sagas.Api;
using Sagas.Data;
using Sagas.Saga;
using Sagas.Walkthrough;
using Sagas.Walkthrough.Steps;

namespace Sagas.Hosting;

/// <summary>Tells the code that all examples share what is this one's own.</summary>
public sealed class SagasExample : Example<SagasStage>
{
    private readonly AnswerLimits _limits = new();

    private readonly Option<double> _shippingLimit = new("--shipping-limit")
    {
        Description = "With --serve: how many seconds shipping may take to answer.",
        HelpName = "seconds",
        DefaultValueFactory = _ => new AnswerLimits().Shipping.TotalSeconds,
        CustomParser = ParseSeconds,
    };

    public override string Name => "sagas";

    public override string Description => "the fulfilment of orders as a saga.";

    public override IReadOnlyList<IStep<SagasStage>> Steps { get; } =
    [
        new HappyPath(),
        new RefusedPayment(),
        new SoldOut(),
        new SilentService(),
        new AnswerInTime(),
        new DuplicateEvents(),
        new ConcurrentEvents(),
        new KilledProcess(),
        new FinalBooks(),
    ];

    public override IReadOnlyList<Option> Switches => [_shippingLimit];

    public override void Read(ParseResult parsed) => _limits.Shipping = TimeSpan.FromSeconds(parsed.GetValue(_shippingLimit));

    public override SagasDb OpenDatabase(Engines engines) => new(engines.OptionsOf<SagasDb>());

    public override WebApplication Build(Engines engines, string url, Action<ILoggingBuilder> configureLogging, FaultPoints? faults)
        => SagasApp.Build(engines, _limits, url, configureLogging, faults);

    public override IEnumerable<string> Hints(string address) =>
    [
        $$"""Try: curl -i {{address}}/orders -H 'content-type: application/json' -d '{"customer":"Ann","quantity":1}'""",
        $"then {address}/orders/<id>, {address}/books and {address}/health.",
        $"A service behaves as it is told: curl -X POST {address}/services/<payment|stock|shipping>/<accept|refuse|silent>",
        $"and a silent one answers an order: curl -X POST {address}/orders/<id>/<payment|stock|shipping>/<accept|refuse>; after {_limits.Shipping.TotalSeconds} s without an answer of shipping the order is cancelled.",
    ];

    public override SagasStage CreateStage(StageSetting setting) => new(setting, _limits);

    public override async Task BeVictimAsync(WebApplication app, HttpClient client, Accidents accidents, string customer, bool survives)
    {
        if (!survives)
        {
            accidents.OnCommit(async () =>
            {
                await using var scope = app.Services.CreateAsyncScope();
                if (await scope.ServiceProvider.GetRequiredService<SagasDb>().States.AnyAsync(saga => saga.Customer == customer && saga.CurrentState == KilledProcess.State))
                    Accidents.KillThisProcess();
                return false;
            });
        }

        using var response = await client.PostAsJsonAsync(new Uri("/orders", UriKind.Relative), new PlaceOrder(customer, 1));
        if (!survives)
            await Task.Delay(Timeout.Infinite);
    }

    private static double ParseSeconds(ArgumentResult argument)
    {
        var text = argument.Tokens[0].Value;
        if (!double.TryParse(text, CultureInfo.InvariantCulture, out var seconds) || seconds is not (> 0 and <= 86_400))
            argument.AddError($"--shipping-limit is \"{text}\"; it must be more than 0 and at most 86400 seconds.");
        return seconds;
    }
}
