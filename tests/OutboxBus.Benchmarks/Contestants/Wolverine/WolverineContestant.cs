namespace OutboxBus.Benchmarks.Contestants.Wolverine;

// Wolverine's durable outbox and inbox on PostgreSQL, publisher confirms on, pooled contexts.
public sealed class WolverineContestant : Contestant
{
    public override string Name => "wolverine";

    public override IPublishingApp CreatePublisher(BenchmarkStage stage) => new WolverinePublishingApp(stage);

    public override IConsumingApp CreateConsumer(BenchmarkStage stage) => new WolverineConsumingApp(stage);
}
