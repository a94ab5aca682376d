using System.Diagnostics;
using System.Net.Mime;
using MassTransit;
using MassTransit.Serialization;
using OutboxBus.MassTransit.Storage;

namespace OutboxBus.MassTransit.Delivery;

/// <summary>Sends envelopes over whatever transport the bus has: the stored bytes, through the endpoint the original would have used.</summary>
internal sealed class BusEnvelopeSender(IBusControl bus, MessageTypes types, TimeProvider time) : IEnvelopeSender
{
    // The message object is never serialized: the body is copied. MassTransit's own marker for that.
    private static readonly SerializedMessageBody Marker = new();

    // An endpoint that cannot start must not keep the messages of the others back for ever.
    private static readonly TimeSpan LongestStart = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    private readonly Lock _looking = new();
    private Task _look = Task.CompletedTask;
    private volatile bool _busHasStarted;
    private long? _partlyUpSince;

    public async Task<SendOutcome> SendAsync(Envelope envelope, CancellationToken cancellationToken)
    {
        EnvelopePipe pipe;
        Uri? destination;
        try
        {
            pipe = new EnvelopePipe(envelope, time);
            destination = envelope.Destination is null ? null : new Uri(envelope.Destination);
        }
        catch (Exception exception) when (UnreadableRows.Causes(exception))
        {
            return SendOutcome.Corrupt(exception);
        }

        using var activity = DeliverActivity.Start(envelope, pipe.Headers);
        // The transport's own span continues the trace of the publisher, not this one.
        Activity.Current = null;
        try
        {
            var found = destination is not null
                ? bus.GetSendEndpoint(destination)
                : types.FindPublishEndpoint(envelope.MessageType, bus);
            if (found is null)
                return SendOutcome.UnknownType(new OutboxBusException($"The message type {envelope.MessageType} is not known to this process."));
            await BusStartedAsync(cancellationToken).ConfigureAwait(false);
            var endpoint = await found.ConfigureAwait(false);
            await endpoint.Send(Marker, (IPipe<SendContext>)pipe, cancellationToken).ConfigureAwait(false);
            return SendOutcome.Confirmed;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            throw;
        }
        catch (Exception exception)
        {
            activity?.SetStatus(ActivityStatusCode.Error, exception.GetType().Name);
            return TransportErrors.Classify(exception);
        }
    }

    /// <summary>What is left of a message's life now, told to the broker; null: it does not expire.</summary>
    public static TimeSpan? TimeToLive(Envelope envelope, TimeProvider time)
        => envelope.ExpiresAt is not { } expiresAt ? null
            : expiresAt - time.GetUtcNow().UtcDateTime is var left && left > TimeSpan.Zero ? left
            : TimeSpan.FromMilliseconds(1);

    /// <summary>
    /// Waits once until the receive endpoints are there. The bus starts in the background, later still if the broker is
    /// down: a message published before this process has declared its own queues would be dropped by a broker that has
    /// not seen them before.
    /// </summary>
    private async Task BusStartedAsync(CancellationToken cancellationToken)
    {
        while (!_busHasStarted)
        {
            Task look;
            lock (_looking)
                look = _look = _look.IsCompleted ? LookAsync() : _look;
            await look.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>One look on behalf of every send that waits.</summary>
    private async Task LookAsync()
    {
        var health = bus.CheckHealth();
        if (health.Status == BusHealthStatus.Healthy || IsPartlyUpTooLong(health))
            _busHasStarted = true;
        else
            await Task.Delay(Pause, time, CancellationToken.None).ConfigureAwait(false);
    }

    private bool IsPartlyUpTooLong(BusHealthResult health)
    {
        if (health.Endpoints.Values.All(endpoint => endpoint.Status != BusHealthStatus.Healthy))
        {
            _partlyUpSince = null;
            return false;
        }

        _partlyUpSince ??= time.GetTimestamp();
        return time.GetElapsedTime(_partlyUpSince.Value) > LongestStart;
    }

    /// <summary>Makes a send context look as it did when the message was captured.</summary>
    private sealed class EnvelopePipe : IPipe<SendContext>
    {
        private readonly Envelope _envelope;
        private readonly TimeProvider _time;
        private readonly StoredProperties _properties;
        private readonly CopyBodySerializer _serializer;

        public EnvelopePipe(Envelope envelope, TimeProvider time)
        {
            _envelope = envelope;
            _time = time;
            _properties = StoredProperties.Parse(envelope.Properties);
            Headers = StoredHeaders.Parse(envelope.Headers);
            _serializer = new CopyBodySerializer(new ContentType(envelope.ContentType), new BytesMessageBody(envelope.Body));
        }

        public Dictionary<string, object> Headers { get; }

        public Task Send(SendContext context)
        {
            context.MessageId = _envelope.MessageId;
            _properties.ApplyTo(context);
            foreach (var (name, value) in Headers)
                context.Headers.Set(name, value);
            if (TimeToLive(_envelope, _time) is { } timeToLive)
                context.TimeToLive = timeToLive;
            context.Serializer = _serializer;
            return Task.CompletedTask;
        }

        public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-envelope");
    }
}
