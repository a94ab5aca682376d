using MassTransit;
using MassTransit.Middleware;
using MassTransit.Scheduling;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using OutboxBus.Publishing;

namespace OutboxBus.MassTransit.Publishing;

/// <summary>
/// The scope's scheduled messages: rows of the outbox that are due later, and are deleted to take them back. MassTransit's
/// own scheduling, in scopes, consumers and state machines, comes here too.
/// </summary>
internal sealed class ScheduledMessages(IServiceProvider services)
{
    /// <summary>
    /// Makes this the application's scheduler, unless it has one that is a service of its own, such as Quartz. MassTransit's
    /// delayed one only delays and cannot cancel: it is replaced.
    /// </summary>
    public static void Register(IServiceCollection collection)
    {
        collection.AddScoped<ScheduledMessages>();
        if (collection.LastOrDefault(service => service.ServiceType == typeof(IMessageScheduler)) is { } other && !IsOf(other.ImplementationFactory, typeof(DelayedMessageSchedulerRegistrationExtensions)))
            return;
        collection.Replace(ServiceDescriptor.Scoped(provider => provider.GetRequiredService<ScheduledMessages>().Scheduler(
            provider.GetRequiredService<IPublishEndpoint>(), provider.GetRequiredService<ISendEndpointProvider>())));
    }

    /// <summary>Likewise for a consumer: whether what it schedules comes here, or goes to a service that its endpoint uses.</summary>
    public static bool SchedulesFor(ConsumeContext context)
        => !context.TryGetPayload<MessageSchedulerContext>(out var other) || IsOf(other.SchedulerFactory, typeof(DelayedMessageSchedulerFilter));

    public void Cancel(Guid token)
    {
        if (token == Guid.Empty)
            throw new ArgumentException("The schedule token is the empty GUID, which no message has.", nameof(token));
        // Resolved to complain at the scope's end about what was never saved.
        _ = services.GetRequiredService<UnsavedMessageGuard>();
        services.GetRequiredService<IUnitOfWorkSource>().Current.Cancel(token);
    }

    /// <summary>MassTransit's scheduler on endpoints that are captured.</summary>
    public IMessageScheduler Scheduler(IPublishEndpoint publishEndpoint, ISendEndpointProvider sendEndpoints)
    {
        var topology = services.GetRequiredService<IBus>().Topology;
        return new MessageScheduler(new Provider(this, publishEndpoint, sendEndpoints, topology), topology);
    }

    /// <summary>Whether a delegate is one that a class of MassTransit has made.</summary>
    private static bool IsOf(Delegate? factory, Type type)
    {
        var declaring = factory?.Method.DeclaringType;
        while (declaring is not null && declaring != type)
            declaring = declaring.DeclaringType;
        return declaring == type;
    }

    private sealed class Provider(ScheduledMessages scheduled, IPublishEndpoint publishEndpoint, ISendEndpointProvider sendEndpoints, IBusTopology topology) : IScheduleMessageProvider
    {
        public async Task<ScheduledMessage<T>> ScheduleSend<T>(Uri destinationAddress, DateTime scheduledTime, T message, IPipe<SendContext<T>> pipe, CancellationToken cancellationToken)
            where T : class
        {
            var token = ScheduleTokenIdCache<T>.GetTokenId(message);
            var scheduling = new SchedulingPipe<T>(new SendOptions { DueAt = Utc(scheduledTime), ScheduleToken = token }, pipe);
            // MassTransit turns a scheduled publish into a send to the type's address; as a publish it reaches subscribers of base types too.
            if (topology.TryGetPublishAddress<T>(out var address) && address == destinationAddress)
            {
                await publishEndpoint.Publish(message, (IPipe<PublishContext<T>>)scheduling, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                var endpoint = await sendEndpoints.GetSendEndpoint(destinationAddress).ConfigureAwait(false);
                await endpoint.Send(message, (IPipe<SendContext<T>>)scheduling, cancellationToken).ConfigureAwait(false);
            }

            return new ScheduledMessageHandle<T>(token, scheduledTime, destinationAddress, message);
        }

        // As MassTransit understands it: a time that does not say what it is, is UTC.
        private static DateTime Utc(DateTime time) => time.Kind == DateTimeKind.Local ? time.ToUniversalTime() : DateTime.SpecifyKind(time, DateTimeKind.Utc);

        public Task CancelScheduledSend(Guid tokenId, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            scheduled.Cancel(tokenId);
            return Task.CompletedTask;
        }

        public Task CancelScheduledSend(Uri destinationAddress, Guid tokenId, CancellationToken cancellationToken) => CancelScheduledSend(tokenId, cancellationToken);
    }

    /// <summary>The options after whatever the caller's own pipe sets.</summary>
    private sealed class SchedulingPipe<T>(MessageOptions options, IPipe<SendContext<T>>? inner) : IPipe<SendContext<T>>, IPipe<PublishContext<T>>
        where T : class
    {
        public Task Send(PublishContext<T> context) => Send((SendContext<T>)context);

        public async Task Send(SendContext<T> context)
        {
            if (inner is not null)
                await inner.Send(context).ConfigureAwait(false);
            MessageOptionsPipe.Apply(options, context);
        }

        public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-schedule");
    }
}
