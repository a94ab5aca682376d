using MassTransit;

namespace OutboxBus.MassTransit;

/// <summary>How the endpoint of a handler or saga is called and works. Those that share an endpoint name share the endpoint.</summary>
public class EndpointOptions
{
    /// <summary>
    /// The endpoint's (queue's) name; default: the class name without the ending "Handler", "Consumer" or "Saga", in kebab
    /// case, so that <c>ReserveStockHandler</c> listens on <c>reserve-stock</c>. Several instances of an application compete for its messages.
    /// </summary>
    public string? EndpointName { get; set; }

    /// <summary>How many messages this endpoint handles at once; default null: as many as it prefetches. At least 1.</summary>
    public int? ConcurrencyLimit { get; set; }

    /// <summary>How many messages the broker hands out in advance; default null: the transport's choice. At least 1.</summary>
    public int? PrefetchCount { get; set; }

    /// <summary>
    /// The pauses between attempts; default 100 ms, 1 s and 5 s, hence four attempts; empty: no retry. Each attempt has a
    /// scope and a transaction of its own. After the last one the message goes to the endpoint's error queue.
    /// </summary>
    public IReadOnlyList<TimeSpan> RetryDelays { get; set; } = [TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(5)];

    internal void Validate(Type consumer)
    {
        var errors = new List<string>();
        if (EndpointName is { } name && string.IsNullOrWhiteSpace(name))
            errors.Add("EndpointName is blank; leave it null for the default");
        if (ConcurrencyLimit < 1)
            errors.Add($"ConcurrencyLimit is {ConcurrencyLimit}; it must be at least 1");
        if (PrefetchCount < 1)
            errors.Add($"PrefetchCount is {PrefetchCount}; it must be at least 1");
        if (RetryDelays.Any(delay => delay < TimeSpan.Zero))
            errors.Add("RetryDelays has a negative time");
        if (errors.Count > 0)
            throw new OutboxBusException($"The options of {consumer} are wrong: {string.Join("; ", errors)}.");
    }

    internal void ApplyTo(IEndpointRegistrationConfigurator endpoint)
    {
        endpoint.Name = EndpointName!;
        endpoint.ConcurrentMessageLimit = ConcurrencyLimit;
        endpoint.PrefetchCount = PrefetchCount;
    }
}

/// <summary>How a saga's endpoint works and how its instances are kept.</summary>
/// <typeparam name="TSaga">The saga.</typeparam>
public sealed class SagaOptions<TSaga> : EndpointOptions
    where TSaga : class
{
    /// <summary>How instances are loaded and kept apart.</summary>
    public SagaRepositoryOptions<TSaga> Repository { get; } = new();
}
