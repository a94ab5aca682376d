using System.Diagnostics;
using MassTransit;
using MassTransit.Logging;
using OutboxBus.MassTransit.Delivery;
using PublishException = RabbitMQ.Client.Exceptions.PublishException;

namespace OutboxBus.RabbitMq.Delivery;

/// <summary>
/// Publishes envelopes on a channel of its own of MassTransit's connection, in half the time that MassTransit's send
/// path takes, and exactly as that would. MassTransit keeps what is rare: it declares the topology by sending the first
/// messages of each type or destination in the life of a channel, and sends whatever is not plain.
/// </summary>
internal sealed class DirectEnvelopeSender(BusEnvelopeSender massTransit, DirectChannels channels, SendExtras extras, TimeProvider time) : IEnvelopeSender, IDisposable
{
    // By name, as listeners choose: with one, MassTransit's span must not be missing from the traces.
    private readonly ActivitySource _tracesOfMassTransit = new(DiagnosticHeaders.DefaultListenerName);

    public Task<SendOutcome> SendAsync(Envelope envelope, CancellationToken cancellationToken)
    {
        if (!channels.AreUsable || _tracesOfMassTransit.HasListeners() || extras.Any)
            return massTransit.SendAsync(envelope, cancellationToken);
        var channel = channels.Current;
        return channel?.Find(envelope) is { } route && DirectMessage.From(envelope, time) is { } message
            ? SendDirectlyAsync(channel, route, message, envelope, cancellationToken)
            : SendThroughMassTransitAsync(channel, envelope, cancellationToken);
    }

    public void Dispose() => _tracesOfMassTransit.Dispose();

    private async Task<SendOutcome> SendDirectlyAsync(DirectChannel channel, DirectRoute route, DirectMessage message, Envelope envelope, CancellationToken cancellationToken)
    {
        using var activity = DeliverActivity.Start(envelope, message.StoredHeaders);
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

    /// <summary>The exceptions MassTransit makes of the client's, so that both ways say and count the same.</summary>
    private static Exception AsMassTransits(Exception exception) => exception switch
    {
        PublishException { IsReturn: true } => new MessageReturnedException("The message was returned by RabbitMQ", exception),
        PublishException => new RabbitMqConnectionException("BasicPublishAsync failed", exception),
        _ => exception,
    };
}
