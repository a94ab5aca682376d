using MassTransit;
using MassTransit.Middleware;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Diagnostics;
using OutboxBus.MassTransit.Delivery;
using OutboxBus.MassTransit.Storage;
using OutboxBus.Publishing;

namespace OutboxBus.MassTransit.Publishing;

/// <summary>Where MassTransit's endpoints put what is sent: serialized now, into the scope's unit of work, without touching the broker.</summary>
internal sealed class EnvelopeCapture(IServiceProvider services, bool isPublish) : OutboxSendContext
{
    private readonly IUnitOfWorkSource _source = services.GetRequiredService<IUnitOfWorkSource>();
    private readonly EnvelopeIntake _intake = services.GetRequiredService<EnvelopeIntake>();
    private readonly MessageTypes _types = services.GetRequiredService<MessageTypes>();
    private readonly TimeProvider _time = services.GetRequiredService<TimeProvider>();
    private readonly OutboxWatch? _watch = services.GetService<OutboxWatch>();

    public object? GetService(Type serviceType) => services.GetService(serviceType);

    public Task AddSend<T>(SendContext<T> context)
        where T : class
    {
        // Resolved to live as long as the scope, and to complain at its end about messages never saved.
        _ = services.GetRequiredService<UnsavedMessageGuard>();

        context.TryGetPayload<MessageOptions>(out var options);
        var delay = options?.Delay ?? context.Delay;
        var dueAt = options?.DueAt ?? (delay is null ? null : _time.GetUtcNow() + delay);

        // First: serializers for raw bodies add their transport headers while they serialize.
        var body = context.Serializer.GetMessageBody(context).GetBytes();
        var envelope = new Envelope
        {
            MessageId = context.MessageId ?? throw new OutboxBusException($"The bus gave a message of type {typeof(T)} no id."),
            Destination = isPublish ? null : context.DestinationAddress?.ToString(),
            MessageType = MessageUrn.ForTypeString<T>(),
            // The serializer's, unless the publisher has set another.
            ContentType = (context.ContentType ?? context.Serializer.ContentType).ToString(),
            Headers = StoredHeaders.ToJson(context.Headers.GetAll()),
            Properties = StoredProperties.Of(context).ToJson(),
            Body = body,
            // MassTransit's delayed scheduler gives one, too.
            ScheduleToken = options?.ScheduleToken ?? (dueAt is null ? null : context.ScheduledMessageId),
        };
        if (isPublish)
            _types.Add<T>();
        _intake.Append(_source.Current, envelope, dueAt, context.TimeToLive);
        _watch?.Captured(envelope, context.Message);
        return Task.CompletedTask;
    }
}
