using MassTransit;
using MassTransit.DependencyInjection;
using OutboxBus.Publishing;

namespace OutboxBus.MassTransit.Publishing;

/// <summary>The user's way in: plain publishes and sends on the scope's captured endpoints.</summary>
internal class OutboxContext(IPublishEndpoint publishEndpoint, ISendEndpointProvider sendEndpoints, ScheduledMessages scheduled) : IOutboxContext, IUnitOfWorkAccess
{
    /// <inheritdoc/>
    public virtual IUnitOfWorkSource? Source => null;

    public Task Publish<T>(T message, PublishOptions? options = null, CancellationToken cancellationToken = default)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(message);
        CheckType(typeof(T));
        options?.Validate();
        return options is null
            ? publishEndpoint.Publish(message, cancellationToken)
            : publishEndpoint.Publish(message, (IPipe<PublishContext>)new MessageOptionsPipe(options), cancellationToken);
    }

    public Task Publish(object message, Type messageType, PublishOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(message);
        ArgumentNullException.ThrowIfNull(messageType);
        if (!messageType.IsInstanceOfType(message))
            throw new ArgumentException($"The message is a {message.GetType()}, which is not a {messageType}.", nameof(message));
        CheckType(messageType);
        options?.Validate();
        return options is null
            ? publishEndpoint.Publish(message, messageType, cancellationToken)
            : publishEndpoint.Publish(message, messageType, new MessageOptionsPipe(options), cancellationToken);
    }

    public async Task Send<T>(string destination, T message, SendOptions? options = null, CancellationToken cancellationToken = default)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(message);
        CheckType(typeof(T));
        options?.Validate();
        var endpoint = await GetEndpointAsync(destination).ConfigureAwait(false);
        await (options is null
            ? endpoint.Send(message, cancellationToken)
            : endpoint.Send(message, (IPipe<SendContext>)new MessageOptionsPipe(options), cancellationToken)).ConfigureAwait(false);
    }

    public async Task<Guid> SchedulePublish<T>(T message, DateTimeOffset dueAt, PublishOptions? options = null, CancellationToken cancellationToken = default)
        where T : class
    {
        var scheduling = (options ?? new PublishOptions()) with { DueAt = dueAt, ScheduleToken = options?.ScheduleToken ?? NewId.NextGuid() };
        Check(options);
        await Publish(message, scheduling, cancellationToken).ConfigureAwait(false);
        return scheduling.ScheduleToken!.Value;
    }

    public async Task<Guid> ScheduleSend<T>(string destination, T message, DateTimeOffset dueAt, SendOptions? options = null, CancellationToken cancellationToken = default)
        where T : class
    {
        var scheduling = (options ?? new SendOptions()) with { DueAt = dueAt, ScheduleToken = options?.ScheduleToken ?? NewId.NextGuid() };
        Check(options);
        await Send(destination, message, scheduling, cancellationToken).ConfigureAwait(false);
        return scheduling.ScheduleToken!.Value;
    }

    public Task CancelScheduled(Guid scheduleToken, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        scheduled.Cancel(scheduleToken);
        return Task.CompletedTask;
    }

    private static void Check(MessageOptions? options)
    {
        if (options?.DueAt is not null)
            throw new ArgumentException("The options have a DueAt besides the time the message is scheduled for; leave it unset.");
    }

    private static void CheckType(Type messageType)
    {
        if (messageType.Namespace is null)
            throw new ArgumentException($"The message type {messageType} has no namespace, and so no address on the bus. Put message types into a namespace.");
    }

    private async Task<ISendEndpoint> GetEndpointAsync(string destination)
    {
        var address = Destination.Parse(destination);
        try
        {
            return await sendEndpoints.GetSendEndpoint(address).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is ArgumentException or UriFormatException or MassTransitException or NotSupportedException)
        {
            throw Destination.Invalid(destination, exception);
        }
    }
}

/// <summary>That of a service scope, which may also be the scope in which a message is handled.</summary>
internal sealed class ScopedOutboxContext(IPublishEndpoint publishEndpoint, ISendEndpointProvider sendEndpoints, IUnitOfWorkSource source, IScopedConsumeContextProvider consuming, ScheduledMessages scheduled)
    : OutboxContext(publishEndpoint, sendEndpoints, scheduled)
{
    public override IUnitOfWorkSource? Source => consuming.HasContext ? null : source;
}

/// <summary>Turns what a user writes as a destination into an address.</summary>
internal static class Destination
{
    public static Uri Parse(string destination)
    {
        if (string.IsNullOrWhiteSpace(destination))
            throw Invalid(destination, null);
        // A bare name, which Uri would take for a relative address.
        if (!destination.Contains(':', StringComparison.Ordinal))
            return destination.All(IsNameCharacter) ? new Uri($"queue:{destination}") : throw Invalid(destination, null);
        return Uri.TryCreate(destination, UriKind.Absolute, out var address) ? address : throw Invalid(destination, null);
    }

    public static ArgumentException Invalid(string? destination, Exception? cause) => new(
        $"\"{destination}\" is no destination. Give a queue name of letters, digits, '.', '_' or '-', such as \"stock\", or an absolute URI that the transport knows, such as \"queue:stock\".",
        nameof(destination),
        cause);

    private static bool IsNameCharacter(char character) => char.IsLetterOrDigit(character) || character is '.' or '_' or '-';
}

/// <summary>Puts a user's options on an outgoing message.</summary>
internal sealed class MessageOptionsPipe(MessageOptions options) : IPipe<PublishContext>, IPipe<SendContext>
{
    public Task Send(PublishContext context)
    {
        // MassTransit keeps "mandatory" on publish contexts, which every transport's send context is.
        if (options.RequireRoute)
            context.Mandatory = true;
        Apply(options, context);
        return Task.CompletedTask;
    }

    public Task Send(SendContext context)
    {
        if (options.RequireRoute && context.TryGetPayload<PublishContext>(out var publish))
            publish.Mandatory = true;
        Apply(options, context);
        return Task.CompletedTask;
    }

    public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-options");

    public static void Apply(MessageOptions options, SendContext context)
    {
        // Due time travels beside MassTransit's own delay, which would need a plugin of the broker.
        context.GetOrAddPayload(() => options);
        if (options.MessageId is { } messageId)
            context.MessageId = messageId;
        if (options.CorrelationId is { } correlationId)
            context.CorrelationId = correlationId;
        if (options.TimeToLive is { } timeToLive)
            context.TimeToLive = timeToLive;
        foreach (var (name, value) in options.Headers ?? new Dictionary<string, object?>())
            context.Headers.Set(name, value);
        // Consumers tell by it that the message was scheduled; a state machine, that it is the one it waits for.
        if (options.ScheduleToken is { } token)
        {
            context.ScheduledMessageId = token;
            context.Headers.Set(MessageHeaders.SchedulingTokenId, token.ToString("D"));
        }
    }
}
