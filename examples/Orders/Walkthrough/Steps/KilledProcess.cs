using System.Diagnostics;
using System.Globalization;
using Microsoft.EntityFrameworkCore;
using OutboxBus;

namespace Orders.Walkthrough.Steps;

/// <summary>A process dies in the worst moment: the order is committed, and nothing has been delivered.</summary>
public sealed class KilledProcess : IStep
{
    private const string Customer = "Finn";

    // 128 + SIGKILL, and what Windows reports of a terminated process.
    private static readonly int Killed = OperatingSystem.IsWindows() ? -1 : 137;

    public string Name => "kill";

    public string Title => "A process killed between commit and delivery loses nothing";

    public async Task RunAsync(Stage stage)
    {
        await stage.StopAppAsync();
        stage.Transcript.Say("The application stops; another process of it starts, takes one order and kills itself after the commit (kill -9)");
        var exitCode = await RunVictimAsync(stage);
        var died = Stopwatch.GetTimestamp();
        stage.Transcript.Check("that process was killed", Killed, exitCode);

        Guid orderId;
        await using (var db = stage.Engines.OpenDatabase())
        {
            var orders = await db.Orders.AsNoTracking().Where(order => order.Customer == Customer).ToListAsync();
            stage.Transcript.Check($"{Customer}'s order is committed", 1, orders.Count);
            stage.Accepted.Add(Customer);
            orderId = orders[0].Id;
            stage.Transcript.Check("its message is in the outbox", 1, await db.Set<Envelope>().CountAsync());
            stage.Transcript.Check("nothing was delivered", 0, await db.Reservations.CountAsync(row => row.OrderId == orderId));
        }

        await stage.StartAppAsync();
        stage.Transcript.Say("The application starts again, on the same database");
        await stage.WaitAsync($"{Customer}'s order is delivered after the lease", async () =>
        {
            await using var db = stage.Engines.OpenDatabase();
            return await db.Notifications.CountAsync(row => row.OrderId == orderId) == 2 && !await db.Set<Envelope>().AnyAsync();
        });
        var seconds = Stopwatch.GetElapsedTime(died).TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture);
        await stage.CheckEffectsAsync($"{Customer}'s order is delivered, reserved and confirmed once, {seconds} s after the kill", orderId);
    }

    private async Task<int> RunVictimAsync(Stage stage)
    {
        using var victim = Process.Start(Victim.StartInfo(stage.Engines, Customer, survives: stage.Accidents.IsSabotaged(Name)))!;
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        try
        {
            await victim.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            victim.Kill();
            throw new PromiseBrokenException("the other process ends", "an exit", "it is still running after 60 s");
        }

        return victim.ExitCode;
    }
}
