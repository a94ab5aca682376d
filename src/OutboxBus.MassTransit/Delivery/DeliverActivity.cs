using System.Diagnostics;
using MassTransit.Logging;
using OutboxBus.Diagnostics;

namespace OutboxBus.MassTransit.Delivery;

/// <summary>The span of one delivery, whoever sends.</summary>
internal static class DeliverActivity
{
    /// <summary>A span that links to the publisher's: a message may leave hours later, and a parent kept open that long helps nobody.</summary>
    public static Activity? Start(Envelope envelope, IReadOnlyDictionary<string, object> headers)
    {
        if (!OutboxBusTelemetry.Activities.HasListeners())
            return null;
        var traceParent = headers.TryGetValue(DiagnosticHeaders.ActivityId, out var value) ? value as string : null;
        ActivityLink[] links = ActivityContext.TryParse(traceParent, null, out var publisher) ? [new ActivityLink(publisher)] : [];
        return OutboxBusTelemetry.Activities.StartActivity(
            "outboxbus deliver",
            ActivityKind.Producer,
            parentContext: default,
            tags:
            [
                new("messaging.system", "outboxbus"),
                new("messaging.operation.name", "deliver"),
                new("messaging.operation.type", "send"),
                new("messaging.message.id", envelope.MessageId.ToString()),
                new("outboxbus.message_type", envelope.MessageType),
                new("outboxbus.attempt", envelope.Attempts + 1),
            ],
            links: links);
    }
}
