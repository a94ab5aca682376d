using OutboxBus.Benchmarks.Contestants;
using OutboxBus.Benchmarks.Contestants.Wolverine;
using OutboxBus.Benchmarks.Workloads;

namespace OutboxBus.Benchmarks;

// What is measured, and for whom.
internal static class Suite
{
    private static readonly Contestant s_outboxBus = new OutboxBusContestant();
    private static readonly Contestant s_inboxLast = new OutboxBusContestant("outboxbus-inbox-last", bus => bus.Inbox(inbox => inbox.Mode = InboxMode.Last));
    private static readonly Contestant s_raw = new RawContestant();
    private static readonly Contestant s_massTransit = new MassTransitDirectContestant();
    private static readonly Contestant s_wolverine = new WolverineContestant();

    public static IReadOnlyList<Contestant> Contestants { get; } = [s_outboxBus, s_inboxLast, s_raw, s_massTransit, s_wolverine];

    // Only the workloads whose names begin as one of those given, and only the contestants given; all if none are.
    public static IReadOnlyList<Workload> Create(Scale scale, IReadOnlyCollection<string> workloads, IReadOnlyCollection<string> contestants)
    {
        Contestant[] publishing = Chosen(s_outboxBus, s_raw, s_massTransit, s_wolverine);
        Contestant[] draining = Chosen(s_outboxBus, s_raw);
        Workload[] all =
        [
            new PublishingWorkload("W1", "controller: 16 workers, a row and a message in each transaction", publishing, scale.Orders, 1),
            new LatencyWorkload("W1-latency", "commit to arrival at 100 a second", publishing, 100, scale.Latency),
            new LatencyWorkload("W1-latency-half", "commit to arrival at half of what each contestant reached in W1", publishing, null, scale.Latency),
            new DrainWorkload("W2-classic", "a backlog leaves for a classic queue", draining, scale.Backlog, quorum: false),
            new DrainWorkload("W2-quorum", "a backlog leaves for a quorum queue", draining, scale.Backlog, quorum: true),
            new ConsumingWorkload("W3", "consumer: the message once, a row and a message in one transaction", Chosen(s_outboxBus, s_inboxLast, s_raw, s_massTransit, s_wolverine), scale.Consumed),
            new PublishingWorkload("W4", "controller: a row and ten messages in each transaction", publishing, scale.BatchedOrders, 10),
            new GrowthWorkload("W5", "a claim of 500 while the table grows", s_outboxBus, scale.Sizes, scale.Churn),
            .. scale.Instances.Select(instances => new InstancesWorkload($"W6-{instances}", $"a backlog and {instances} instances", s_outboxBus, instances, scale.Backlog / 2)),
        ];
        return [.. all.Where(workload => workload.Contestants.Count > 0 && (workloads.Count == 0 || workloads.Any(start => workload.Name.StartsWith(start, StringComparison.OrdinalIgnoreCase))))];

        Contestant[] Chosen(params Contestant[] those) => [.. those.Where(contestant => contestants.Count == 0 || contestants.Contains(contestant.Name))];
    }
}
