using Examples.Hosting;

namespace Examples.Walkthrough;

/// <summary>Runs all steps on a database of its own; 0 when every outcome was the promised one, 1 otherwise.</summary>
public static class Tour
{
    public static async Task<int> RunAsync<TStage>(Example<TStage> example, Engines engines, Accidents accidents, TimeSpan patience, TextWriter output)
        where TStage : Stage
    {
        var transcript = new Transcript(output);
        var log = new LogFile(Path.Combine(Path.GetTempPath(), $"{engines.Schema}.log"));
        transcript.Title($"OutboxBus example: {engines.Description}");
        transcript.Say($"The tables are in the fresh {engines.Place}, dropped at the end; nothing else in the database is touched.");
        transcript.Say($"A message not delivered by its process is claimed after a lease: here {ShortTimes.Lease.TotalSeconds} s, by default 30 s.");

        var steps = example.Steps.Where(step => accidents.SabotagedStep is not { } sabotaged || step.Name == sabotaged).ToList();
        await using (var db = example.OpenDatabase(engines))
            await ExampleSchema.CreateAsync(engines, db);
        int passed;
        try
        {
            await using var stage = example.CreateStage(new StageSetting(
                engines, () => example.Build(engines, "http://127.0.0.1:0", log.Configure, accidents.FaultPoints), accidents, transcript, patience));
            passed = await RunStepsAsync(steps, stage);
        }
        finally
        {
            await ExampleSchema.DropAsync(engines);
        }

        transcript.Title($"{passed} of {steps.Count} steps passed, {transcript.Checks} checks");
        if (passed == steps.Count)
            File.Delete(log.Path);
        else if (File.Exists(log.Path))
            transcript.Say($"Warnings and errors, those made on purpose included: {log.Path}");
        return passed == steps.Count ? 0 : 1;
    }

    private static async Task<int> RunStepsAsync<TStage>(IReadOnlyList<IStep<TStage>> steps, TStage stage)
        where TStage : Stage
    {
        var passed = 0;
        foreach (var (index, step) in steps.Index())
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
        await stage.ResetAsync();
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
