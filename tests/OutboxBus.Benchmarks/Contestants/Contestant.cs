namespace OutboxBus.Benchmarks.Contestants;

// Where an application under test runs: a database and a virtual host of its own.
public sealed record BenchmarkStage(string ConnectionString, Uri VirtualHost)
{
    // What consumers consume from.
    public const string InputQueue = "bench-input";

    // Of every consumer.
    public int Prefetch { get; init; } = 32;

    public int Concurrency { get; init; } = 16;
}

// One way to solve the task; what it does not offer it leaves out of those workloads.
public abstract class Contestant
{
    // As in the results.
    public abstract string Name { get; }

    public virtual IPublishingApp? CreatePublisher(BenchmarkStage stage) => null;

    public virtual IConsumingApp? CreateConsumer(BenchmarkStage stage) => null;

    // Empties the outbox table that OutboxBus has filled.
    public virtual IDrainingApp? CreateDrain(BenchmarkStage stage) => null;

    public sealed override string ToString() => Name;
}

// A web application, as it were: each order is a request.
public interface IPublishingApp : IAsyncDisposable
{
    // The durable fanout exchange that its messages go to. A queue is bound to it before the start.
    string Exchange { get; }

    Task StartAsync();

    // One order and so many messages in one transaction; returns when that is committed.
    Task PlaceOrderAsync(string reference, int messages);
}

// Consumes orders: the message once, a shipment, and a message about it, in one transaction.
public interface IConsumingApp : IAsyncDisposable
{
    string OutputExchange { get; }

    // Puts orders into the input queue, as fast as that goes and without an outbox; nothing is consumed yet.
    Task FillAsync(int messages);

    Task StartAsync();
}

public interface IDrainingApp : IAsyncDisposable
{
    Task StartAsync();
}
