using System.Diagnostics;
using System.Globalization;
using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus;
using Sagas.Contracts;

namespace Sagas.Walkthrough.Steps;

/// <summary>A process dies in the middle of a saga: the payment is noted, and the stock has not been asked.</summary>
public sealed class KilledProcess : IStep<SagasStage>
{
    /// <summary>The process kills itself right after the commit that brings the saga there.</summary>
    public const string State = "AwaitingStock";

    private const string Customer = "Ida";

    public string Name => "kill";

    public string Title => "A process killed in the middle of a saga loses nothing";

    public async Task RunAsync(SagasStage stage)
    {
        stage.Transcript.Say("The application stops; another process of it starts, takes one order and kills itself when the saga has noted the payment (kill -9)");
        await stage.RunVictimAsync(Customer, Name);
        var died = Stopwatch.GetTimestamp();

        Data.Order order;
        await using (var db = stage.OpenDatabase())
        {
            order = await db.Orders.AsNoTracking().SingleAsync(row => row.Customer == Customer);
            await stage.CheckWayAsync(order, "the saga is where the last commit has brought it", $"AwaitingPayment {State}");
            var waiting = await db.Set<Envelope>().AsNoTracking().ToListAsync();
            stage.Transcript.Check("what it asks the stock is in the outbox", 1, waiting.Count(message => message.MessageType.EndsWith(nameof(ReserveStock), StringComparison.Ordinal)));
            stage.Transcript.Check("so is its timeout", 1, await stage.CountTimeoutsAsync());
        }

        await stage.StartAppAsync();
        stage.Transcript.Say("The application starts again, on the same database");
        await stage.CheckEndAsync(order, "AwaitingPayment AwaitingStock AwaitingShipment Completed");
        stage.Transcript.Say($"That was {Stopwatch.GetElapsedTime(died).TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture)} s after the kill");
    }
}
