using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using MassTransit;
using MassTransit.Context;
using MassTransit.Middleware;
using MassTransit.Middleware.Outbox;
using OutboxBus.MassTransit.Publishing;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>
/// The consume context inside the inbox: what is published, sent or answered goes into the consumer's transaction, and
/// what MassTransit would report of success or failure waits until that transaction has ended.
/// </summary>
internal sealed class InboxConsumeContext<TMessage> : OutboxConsumeContextProxy<TMessage>
    where TMessage : class
{
    private static readonly OutboxConsumeOptions Unused = new();

    private readonly ConcurrentQueue<Func<Task>> _consumed = new();
    private readonly ConcurrentQueue<Func<Task>> _faulted = new();
    private readonly EnvelopeCapture _sends;
    private readonly DelayedMessageRedeliveryContext<TMessage> _redelivery;
    private readonly Lazy<MessageSchedulerContext?> _scheduler;

    public InboxConsumeContext(ConsumeContext<TMessage> context, IServiceProvider services)
        : base(context, Unused, services)
    {
        _sends = new EnvelopeCapture(services, isPublish: false);
        // One capture each, as a send context does not say whether it is a publish.
        var receive = new CapturingReceiveContext(context.ReceiveContext, new EnvelopeCapture(services, isPublish: true), this);
        ReceiveContext = receive;
        PublishEndpointProvider = receive.PublishEndpointProvider;
        _scheduler = new(() => ScheduledMessages.SchedulesFor(context) ? new ConsumeMessageSchedulerContext(this, SchedulerOf) : null);
        _redelivery = new DelayedMessageRedeliveryContext<TMessage>(this, RedeliveryOptions.ReplaceMessageId);
    }

    /// <summary>What is being consumed; set before the handler runs.</summary>
    public InboxKey Key { get; set; }

    /// <summary>Takes back what a consumer has done that fails without an exception; null: none does.</summary>
    public Func<Task>? Undo { get; set; }

    // MassTransit's own inbox protocol, which is not used here.
    public override bool ContinueProcessing { get; set; }

    public override bool IsMessageConsumed => false;

    public override bool IsOutboxDelivered => false;

    public override int ReceiveCount => 1;

    public override long? LastSequenceNumber => null;

    public override Task AddSend<T>(SendContext<T> context)
    {
        Generation.Stamp(context, Key, ReceiveContext.InputAddress);
        return _sends.AddSend(context);
    }

    /// <summary>
    /// A redelivery by the handler, and what it schedules, is a message of its transaction, held in the database for its delay. A
    /// redelivery after a failure is not, and finds the endpoint's own.
    /// </summary>
    public override bool TryGetPayload<T>([NotNullWhen(true)] out T? payload)
        where T : class
    {
        payload = typeof(T) == typeof(MessageRedeliveryContext) ? (T)(object)_redelivery
            : typeof(T) == typeof(MessageSchedulerContext) ? (T?)(object?)_scheduler.Value
            : null;
        return payload is not null || base.TryGetPayload<T>(out payload!);
    }

    public override Task NotifyConsumed<T>(ConsumeContext<T> context, TimeSpan duration, string consumerType)
    {
        _consumed.Enqueue(() => CapturedContext.NotifyConsumed(Outer(context), duration, consumerType));
        return Task.CompletedTask;
    }

    public override async Task NotifyFaulted<T>(ConsumeContext<T> context, TimeSpan duration, string consumerType, Exception exception)
    {
        if (Undo is not null)
            await Undo().ConfigureAwait(false);
        _faulted.Enqueue(() => CapturedContext.NotifyFaulted(Outer(context), duration, consumerType, exception));
    }

    /// <summary>The transaction has committed: report what was consumed. A routing slip's activity may have failed and be consumed all the same.</summary>
    public async Task ReportConsumedAsync()
    {
        await ReportAsync(_faulted).ConfigureAwait(false);
        await ReportAsync(_consumed).ConfigureAwait(false);
    }

    /// <summary>The transaction has rolled back: report the failure once, whoever noticed it.</summary>
    public async Task ReportFaultedAsync(TimeSpan duration, string consumerType, Exception exception)
    {
        if (_faulted.IsEmpty)
            await CapturedContext.NotifyFaulted((ConsumeContext<TMessage>)CapturedContext, duration, consumerType, exception).ConfigureAwait(false);
        else
            await ReportAsync(_faulted).ConfigureAwait(false);
    }

    public override Task SetConsumed() => Task.CompletedTask;

    public override Task SetDelivered() => Task.CompletedTask;

    public override Task<List<OutboxMessageContext>> LoadOutboxMessages() => Task.FromResult(new List<OutboxMessageContext>());

    public override Task NotifyOutboxMessageDelivered(OutboxMessageContext message) => Task.CompletedTask;

    public override Task RemoveOutboxMessages() => Task.CompletedTask;

    private IMessageScheduler SchedulerOf(ConsumeContext context) => ((ScheduledMessages)GetService(typeof(ScheduledMessages))).Scheduler(context, context);

    private ConsumeContext<T> Outer<T>(ConsumeContext<T> context)
        where T : class => ReferenceEquals(context, this) ? (ConsumeContext<T>)CapturedContext : context;

    private static async Task ReportAsync(ConcurrentQueue<Func<Task>> reports)
    {
        while (reports.TryDequeue(out var report))
            await report().ConfigureAwait(false);
    }

    private sealed class CapturingReceiveContext(ReceiveContext context, OutboxSendContext publishes, OutboxSendContext sends) : ReceiveContextProxy(context)
    {
        public override IPublishEndpointProvider PublishEndpointProvider { get; } = new OutboxPublishEndpointProvider(publishes, context.PublishEndpointProvider);

        public override ISendEndpointProvider SendEndpointProvider { get; } = new OutboxSendEndpointProvider(sends, context.SendEndpointProvider);
    }
}
