using System.Runtime.Serialization;
using System.Text.Json;
using MassTransit;

namespace OutboxBus.MassTransit.Delivery;

/// <summary>
/// Tells a message that is refused from a transport that is down. What is not known to be the message's fault counts
/// against the transport: that costs no attempt, and a message that keeps failing while others succeed is found out by
/// the core.
/// </summary>
internal static class TransportErrors
{
    public static SendOutcome Classify(Exception exception) => exception switch
    {
        ConnectionException or TransportUnavailableException or TransportException => SendOutcome.TransportFailed(exception),
        // Every other exception of MassTransit is about this message: returned as unroutable, a wrong address, a topology it cannot have.
        MassTransitException => SendOutcome.Refused(exception),
        ArgumentException or FormatException or NotSupportedException or NotImplementedException or JsonException or SerializationException => SendOutcome.Refused(exception),
        _ => SendOutcome.TransportFailed(exception),
    };
}
