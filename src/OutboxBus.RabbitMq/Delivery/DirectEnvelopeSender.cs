using System.Diagnostics;
using MassTransit;
using MassTransit.Logging;
using OutboxBus.MassTransit.Delivery;
using PublishException = RabbitMQ.Client.Exceptions.PublishException;

namespace OutboxBus.RabbitMq.Delivery;

/// <summary>
/// Publishes envelopes on a channel of its own of MassTransit's connection, at less than half of the cost of MassTransit's
/// send path, and exactly as that would. MassTransit keeps what is rare: it declares the topology by sending the first
/// messages of each type or destination in the life of a channel, and sends whatever is not plain.
/// </summary>
internal sealed class DirectEnvelopeSender(BusEnvelopeSender massTransit, DirectChannels channels, SendExtras extras, TimeProvider time) : IEnvelopeSender, IDisposable
{
    // Of the name by which listeners choose MassTransit's.
    private readonly ActivitySource _tracesOfMassTransit = new(DiagnosticHeaders.DefaultListenerName);

    private readonly ContentTypes _contentTypes = new();

    public Task<SendOutcome> SendAsync(Envelope envelope, CancellationToken cancellationToken)
    {
        if (!channels.AreUsable || extras.Any)
            return massTransit.SendAsync(envelope, cancellationToken);
        var channel = channels.Current;
        return channel?.Find(envelope) is { } route && DirectMessage.From(envelope, _contentTypes, time) is { } message && !IsTraced(route, message)
            ? SendDirectlyAsync(channel, route, message, envelope, cancellationToken)
            : SendThroughMassTransitAsync(channel, envelope, cancellationToken);
    }

    public void Dispose() => _tracesOfMassTransit.Dispose();

    private async Task<SendOutcome> SendDirectlyAsync(DirectChannel channel, DirectRoute route, DirectMessage message, Envelope envelope, CancellationToken cancellationToken)
    {
        using var activity = DeliverActivity.Start(envelope, message.CapturedHeaders);
        // As in the other way: what the client starts belongs to no span of the caller.
        Activity.Current = null;
        try
        {
            await channel.PublishAsync(route, message, envelope.Body, cancellationToken).ConfigureAwait(false);
            return SendOutcome.Confirmed;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // A confirm may never come (rabbitmq-dotnet-client, issue 1930): what is sent again must not go the same way.
            channels.Replace(channel);
            throw;
        }
        catch (Exception exception)
        {
            activity?.SetStatus(ActivityStatusCode.Error, exception.GetType().Name);
            if (!channel.IsOpen)
                channels.Replace(channel);
            return TransportErrors.Classify(AsMassTransits(exception));
        }
    }

    private async Task<SendOutcome> SendThroughMassTransitAsync(DirectChannel? channel, Envelope envelope, CancellationToken cancellationToken)
    {
        var outcome = await massTransit.SendAsync(envelope, cancellationToken).ConfigureAwait(false);
        if (outcome.Kind == SendOutcomeKind.Confirmed)
        {
            // A route counts only for the channel that was there before the send: what a broker knew may have died with the one before.
            if (channel is { IsOpen: true })
                await channels.LearnAsync(channel, envelope).ConfigureAwait(false);
            else
                channels.Open();
        }

        return outcome;
    }

    /// <summary>
    /// Whether someone records MassTransit's send: its span, and the trace it continues, must not have a gap. With none
    /// that records, the consumer continues the publisher's trace all the same.
    /// </summary>
    private bool IsTraced(DirectRoute route, DirectMessage message)
    {
        if (!_tracesOfMassTransit.HasListeners())
            return false;
        ActivityContext.TryParse(message.CapturedHeaders.GetValueOrDefault(DiagnosticHeaders.ActivityId) as string, null, out var publisher);
        using var span = _tracesOfMassTransit.CreateActivity(route.SpanName, ActivityKind.Producer, publisher);
        return span?.IsAllDataRequested == true;
    }

    /// <summary>The exceptions MassTransit makes of the client's, so that both ways say and count the same.</summary>
    private static Exception AsMassTransits(Exception exception) => exception switch
    {
        PublishException { IsReturn: true } => new MessageReturnedException("The message was returned by RabbitMQ", exception),
        PublishException => new RabbitMqConnectionException("BasicPublishAsync failed", exception),
        _ => exception,
    };
}
