using Orders.Hosting;
using Orders.Walkthrough.Steps;

namespace Orders.Walkthrough;

/// <summary>One promise of OutboxBus, shown and checked.</summary>
public interface IStep
{
    string Name { get; }

    string Title { get; }

    Task RunAsync(Stage stage);
}

/// <summary>Runs all steps on a database of its own; 0 when every outcome was the promised one, 1 otherwise.</summary>
public static class Tour
{
    public static readonly IReadOnlyList<IStep> Steps =
    [
        new PlacedOrders(),
        new FailedTransaction(),
        new DuplicateDelivery(),
        new BrokerOutage(),
        new KilledProcess(),
        new FinalCount(),
    ];

    public static async Task<int> RunAsync(Engines engines, Accidents accidents, TimeSpan patience, TextWriter output)
    {
        var transcript = new Transcript(output);
        var log = new LogFile(Path.Combine(Path.GetTempPath(), $"{engines.Schema}.log"));
        transcript.Title($"OutboxBus example: {engines.Description}");
        transcript.Say($"The tables are in the fresh {engines.Place}, dropped at the end; nothing else in the database is touched.");
        transcript.Say($"A message not delivered by its process is claimed after a lease: here {Data.OrdersDb.Lease.TotalSeconds} s, by default 30 s.");

        await OrdersSchema.CreateAsync(engines);
        int passed;
        try
        {
            await using var stage = new Stage(engines, log, accidents, transcript, patience);
            passed = await RunStepsAsync(stage);
        }
        finally
        {
            await OrdersSchema.DropAsync(engines);
        }

        transcript.Title($"{passed} of {Steps.Count} steps passed, {transcript.Checks} checks");
        if (passed == Steps.Count)
            File.Delete(log.Path);
        else if (File.Exists(log.Path))
            transcript.Say($"Warnings and errors, those made on purpose included: {log.Path}");
        return passed == Steps.Count ? 0 : 1;
    }

    private static async Task<int> RunStepsAsync(Stage stage)
    {
        var passed = 0;
        foreach (var (index, step) in Steps.Index())
        {
            stage.Transcript.Title($"{index + 1}. {step.Title}");
            try
            {
                await stage.StartAppAsync();
                await step.RunAsync(stage);
                passed++;
            }
            catch (PromiseBrokenException failure)
            {
                stage.Transcript.Broken(failure);
                await CleanUpAsync(stage);
            }
        }

        return passed;
    }

    /// <summary>What a failed step has left behind must not fail the next one.</summary>
    private static async Task CleanUpAsync(Stage stage)
    {
        stage.Accidents.Clear();
        await stage.StartAppAsync();
        try
        {
            await stage.WaitForEmptyOutboxAsync();
        }
        catch (PromiseBrokenException failure)
        {
            stage.Transcript.Broken(failure);
        }
    }
}
