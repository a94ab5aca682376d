using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

/// <summary>Sees what arrives in one queue, one message after the other: what was published before a later message has been seen when that is.</summary>
internal static class Watcher
{
    /// <summary>Watches a message type; the name under which the probe has it is that of the type.</summary>
    public static void Watch<T>(this IBusRegistrationConfigurator bus)
        where T : class
    {
        if (bus.All(service => service.ServiceType != typeof(Watching<Fence>)))
            bus.AddConsumer<Watching<Fence>>().Endpoint(Queue);
        bus.AddConsumer<Watching<T>>().Endpoint(Queue);

        static void Queue(IEndpointRegistrationConfigurator endpoint)
        {
            endpoint.Name = "watch";
            endpoint.ConcurrentMessageLimit = 1;
            endpoint.PrefetchCount = 1;
        }
    }

    /// <summary>Everything that was published has left, and what is watched of it has been seen: what should not be there can be missed no more.</summary>
    public static async Task SettledAsync(this App app, Stack stack)
    {
        await stack.DrainedAsync();
        var fence = new Fence(Guid.NewGuid());
        await app.PublishDirectlyAsync(fence);
        await Eventually.BecomesAsync(() => app.Probe.Seen<Fence>().Contains(fence), "what was published before the fence has been seen");
    }

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

public sealed record Fence(Guid Id);
