namespace Examples.Walkthrough;

/// <summary>One promise of OutboxBus, shown and checked.</summary>
public interface IStep<in TStage>
    where TStage : Stage
{
    string Name { get; }

    string Title { get; }

    Task RunAsync(TStage stage);
}
