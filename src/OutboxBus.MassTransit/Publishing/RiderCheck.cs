using MassTransit;
using MassTransit.DependencyInjection;
using MassTransit.Transports;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;

namespace OutboxBus.MassTransit.Publishing;

/// <summary>Says at start that what riders (Kafka, Event Hubs) produce is not captured: their producers are no endpoints of the bus, so nothing sees them send.</summary>
internal sealed class RiderCheck(IServiceCollection services, PublishingOptions options, ILogger<RiderCheck> logger) : IHostedService
{
    public Task StartAsync(CancellationToken cancellationToken)
    {
        if (options.Bypass == OutboxBypass.Allow)
            return Task.CompletedTask;
        foreach (var rider in services.Select(service => RiderOf(service.ServiceType)).OfType<Type>().Distinct())
            logger.RiderIsNotCaptured(rider.Name);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>The rider that MassTransit has bound to the bus by this service; null: it is another service.</summary>
    private static Type? RiderOf(Type service)
        => service.IsGenericType && service.GetGenericTypeDefinition() == typeof(Bind<,>) && service.GetGenericArguments() is [var bus, var bound] && bus == typeof(IBus) && typeof(IRider).IsAssignableFrom(bound)
            ? bound
            : null;
}
