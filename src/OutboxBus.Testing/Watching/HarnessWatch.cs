using System.Collections.Concurrent;
using MassTransit;
using OutboxBus.Diagnostics;
using OutboxBus.MassTransit.Storage;

namespace OutboxBus.Testing.Watching;

/// <summary>Keeps what happened to messages, in the order in which it did.</summary>
internal sealed class HarnessWatch : OutboxWatch
{
    private readonly ConcurrentDictionary<Guid, HarnessMessage> _captured = new();
    private readonly ConcurrentDictionary<Guid, byte> _lost = new();

    /// <summary>Whether what is captured now will not be handed off.</summary>
    public bool HandOffIsLost { get; set; }

    public Sightings<HarnessMessage> CapturedMessages { get; } = new();

    public Sightings<HarnessMessage> DeliveredMessages { get; } = new();

    public Sightings<ConsumedMessage> ConsumedMessages { get; } = new();

    public Sightings<HarnessMessage> UnsavedMessages { get; } = new();

    public Sightings<string> BypassedTypes { get; } = new();

    public ReceiveCounter Receiving { get; } = new();

    public override void Captured(Envelope envelope, object message)
    {
        var captured = new HarnessMessage(message, envelope.MessageId, envelope.Destination, envelope.DueAt, envelope.ScheduleToken, Headers(envelope));
        _captured[envelope.MessageId] = captured;
        if (HandOffIsLost)
            _lost[envelope.MessageId] = 0;
        CapturedMessages.Add(captured);
    }

    /// <summary>Whether a message waits for its lease to end, as it was not handed off.</summary>
    public bool IsLost(Guid messageId) => _lost.ContainsKey(messageId);

    public void Delivered(Envelope envelope) => DeliveredMessages.Add(Of(envelope));

    public override void Bypassed(string messageType) => BypassedTypes.Add(messageType);

    public override void Unsaved(IReadOnlyCollection<Envelope> envelopes)
    {
        foreach (var envelope in envelopes)
            UnsavedMessages.Add(Of(envelope));
    }

    public override void Consumed(object message, Guid messageId, string consumer, bool isDuplicate, Exception? exception)
        => ConsumedMessages.Add(new ConsumedMessage(message, messageId, consumer, isDuplicate, exception));

    /// <summary>The message as it was captured; a row that an earlier application has left is known as its envelope.</summary>
    public HarnessMessage Of(Envelope envelope) => _captured.TryGetValue(envelope.MessageId, out var captured)
        ? captured
        : new HarnessMessage(envelope, envelope.MessageId, envelope.Destination, envelope.DueAt, envelope.ScheduleToken, Headers(envelope));

    private static Dictionary<string, object?> Headers(Envelope envelope)
        => StoredHeaders.Parse(envelope.Headers).ToDictionary(header => header.Key, header => (object?)header.Value);

    /// <summary>How many messages the endpoints are at work on.</summary>
    public sealed class ReceiveCounter : IReceiveObserver
    {
        private int _now;
        private long _ever;

        public int Now => Volatile.Read(ref _now);

        public long Ever => Interlocked.Read(ref _ever);

        public Task PreReceive(ReceiveContext context)
        {
            Interlocked.Increment(ref _now);
            Interlocked.Increment(ref _ever);
            return Task.CompletedTask;
        }

        public Task PostReceive(ReceiveContext context) => Ended();

        public Task ReceiveFault(ReceiveContext context, Exception exception) => Ended();

        public Task PostConsume<T>(ConsumeContext<T> context, TimeSpan duration, string consumerType)
            where T : class => Task.CompletedTask;

        public Task ConsumeFault<T>(ConsumeContext<T> context, TimeSpan duration, string consumerType, Exception exception)
            where T : class => Task.CompletedTask;

        private Task Ended()
        {
            Interlocked.Decrement(ref _now);
            return Task.CompletedTask;
        }
    }
}
