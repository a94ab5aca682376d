// A copy until the contestants share a project; its namespace is the shared one.
#pragma warning disable IDE0130

namespace OutboxBus.Benchmarks.Contestants;

public sealed record BenchmarkStage(string ConnectionString, Uri VirtualHost, int Prefetch, int Concurrency);

public interface IPublishingApp : IAsyncDisposable
{
    // A durable fanout exchange; the caller has bound a queue to it before StartAsync.
    string Exchange { get; }

    // The schema exists afterwards.
    Task StartAsync();

    // A service scope, a pooled DbContext: one Order row and as many OrderPlaced in one transaction. Returns after the commit.
    Task PlaceOrderAsync(string reference, int messages);
}

public interface IConsumingApp : IAsyncDisposable
{
    // A durable fanout exchange; the caller has bound a queue to it before StartAsync.
    string OutputExchange { get; }

    // Puts OrderPlaced into the queue "bench-input", without an outbox; nothing consumes yet.
    Task FillAsync(int messages);

    // Consumes with Prefetch and Concurrency: message recorded as consumed, one Shipment row and one OrderShipped in one transaction.
    Task StartAsync();
}

public sealed record OrderPlaced(Guid OrderId, string Reference, string Customer, string Address, decimal Amount, DateTimeOffset PlacedAt);

public sealed record OrderShipped(Guid OrderId, string Reference, string Carrier, DateTimeOffset ShippedAt);
