using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

/// <summary>Sees what arrives in one queue, one message after the other: what was published before a later message has been seen when that is.</summary>
internal static class Watcher
{
    /// <summary>Watches a message type; the name under which the probe has it is that of the type.</summary>
    public static void Watch<T>(this IBusRegistrationConfigurator bus)
        where T : class => bus.AddConsumer<Watching<T>>().Endpoint(endpoint =>
        {
            endpoint.Name = "watch";
            endpoint.ConcurrentMessageLimit = 1;
            endpoint.PrefetchCount = 1;
        });

    public static IReadOnlyList<T> Seen<T>(this Probe probe) => [.. probe.Of(typeof(T).ToString()).Select(sighting => sighting.What).Cast<T>()];

    public static Task SeesAsync<T>(this Probe probe, int times = 1) => probe.SeesAsync(typeof(T).ToString(), times);

    /// <summary>What went wrong in the first place; state machines wrap it.</summary>
    public static string Cause(this Fault fault)
    {
        var exception = fault.Exceptions[0];
        while (exception.InnerException is { } inner)
            exception = inner;
        return exception.Message;
    }

    /// <summary>Publishes past any outbox, as another application would.</summary>
    public static Task PublishDirectlyAsync<T>(this App app, T message, Guid? id = null)
        where T : class => app.Services.GetRequiredService<IBus>().Publish(message, context => context.MessageId = id ?? context.MessageId);
}

public sealed class Watching<T>(Probe probe) : IConsumer<T>
    where T : class
{
    public Task Consume(ConsumeContext<T> context)
    {
        probe.Saw(typeof(T).ToString(), context.Message);
        return Task.CompletedTask;
    }
}
