using System.Text;
using OutboxBus.Diagnostics;

namespace OutboxBus.Publishing;

/// <summary>The one way into an outbox: checks an envelope and appends it to a unit of work.</summary>
internal sealed class EnvelopeIntake(string bus, OutboxBusOptions options, TimeProvider time, OutboxMetrics metrics)
{
    /// <summary>Claimable at once, whatever the database's clock says.</summary>
    private static readonly DateTime Epoch = DateTime.UnixEpoch;

    /// <summary>Checks the envelope and appends it.</summary>
    /// <param name="unitOfWork">The transaction to ride in.</param>
    /// <param name="envelope">The envelope, not yet stored.</param>
    /// <param name="dueAt">When to send; null or past: at once.</param>
    /// <param name="timeToLive">How long the message is worth sending; null: for ever.</param>
    /// <exception cref="MessageTooLargeException">The body or the headers are over their limits, or a name is longer than its column.</exception>
    public void Append(IUnitOfWork unitOfWork, Envelope envelope, DateTimeOffset? dueAt, TimeSpan? timeToLive)
    {
        CheckSize(envelope);
        envelope.Bus = bus;

        var now = time.GetUtcNow();
        // MassTransit takes any time; what outlasts the calendar does not expire.
        if (timeToLive is { } lifetime && lifetime < DateTimeOffset.MaxValue - now)
            envelope.ExpiresAt = (now + lifetime).UtcDateTime;

        if (dueAt > now)
            envelope.VisibleAt = (envelope.DueAt = dueAt.Value.UtcDateTime).Value;
        else if (!options.Delivery.Enabled)
            envelope.VisibleAt = Epoch;

        unitOfWork.Append(envelope);
        metrics.Captured();
    }

    private void CheckSize(Envelope envelope)
    {
        // First: the other texts repeat the type.
        CheckLength("message type", envelope.MessageType, Envelope.AddressLength);
        CheckLength("destination", envelope.Destination, Envelope.AddressLength);
        CheckLength("content type", envelope.ContentType, Envelope.NameLength);

        var limits = options.Publishing;
        if (envelope.Body.Length > limits.MaxBodyBytes)
        {
            throw new MessageTooLargeException(
                $"The body of a message of type {envelope.MessageType} has {envelope.Body.Length} bytes; the limit is {limits.MaxBodyBytes} (Publishing.MaxBodyBytes). "
                + "Nothing was stored. Send a reference to the data instead, or raise the limit.");
        }

        var headerBytes = Encoding.UTF8.GetByteCount(envelope.Headers ?? "") + Encoding.UTF8.GetByteCount(envelope.Properties ?? "");
        if (headerBytes > limits.MaxHeaderBytes)
        {
            throw new MessageTooLargeException(
                $"The headers of a message of type {envelope.MessageType} have {headerBytes} bytes; the limit is {limits.MaxHeaderBytes} (Publishing.MaxHeaderBytes). "
                + "Nothing was stored. Move data into the body, or raise the limit.");
        }
    }

    /// <summary>Some engines would refuse the row, and with it the caller's whole transaction; others would store it.</summary>
    private static void CheckLength(string what, string? text, int limit)
    {
        if (text?.Length > limit)
            throw new MessageTooLargeException($"The {what} of a message has {text.Length} characters; the limit is {limit}. Nothing was stored. Shorten it.");
    }
}
