using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;

namespace OutboxBus.Publishing;

/// <summary>
/// Notices messages that go straight to the broker from code that has a unit of work: they leave whether it commits or
/// not. What is inside one flows with the asynchronous calls made from there.
/// </summary>
internal sealed class BypassGuard(PublishingOptions options, OutboxMetrics metrics, ILogger<BypassGuard> logger, OutboxWatch? watch = null)
{
    private readonly AsyncLocal<Inside?> _current = new();

    // One line for each type tells all there is to tell.
    private readonly ConcurrentDictionary<string, byte> _warned = new();
    private readonly ConcurrentDictionary<string, byte> _warnedOfRequests = new();

    /// <summary>From here until it is disposed, the caller and what it calls are inside a unit of work.</summary>
    /// <param name="isHandler">Whether its transaction is open all the time.</param>
    public IDisposable Enter(bool isHandler = false) => _current.Value = new Inside(_current.Value?.Live, isHandler);

    /// <summary>A message is about to go straight to the broker.</summary>
    /// <exception cref="OutboxBusException">The caller is inside a unit of work, and the option is to throw.</exception>
    public void MessageGoesDirectly(string messageType)
    {
        if (_current.Value?.Live is null)
            return;
        metrics.Bypassed();
        watch?.Bypassed(messageType);
        if (options.Bypass == OutboxBypass.Throw)
        {
            throw new OutboxBusException(
                $"A message of type {messageType} was published through the bus itself inside a unit of work: it would leave even if that rolls back. "
                + "Remedy: publish through IOutboxContext, IPublishEndpoint, ISendEndpointProvider or the consume context of the scope, or set Publishing.Bypass.");
        }

        if (options.Bypass == OutboxBypass.Warn && _warned.TryAdd(messageType, 0))
            logger.Bypassed(messageType);
    }

    /// <summary>A request is about to go straight to the broker, as it must; but the caller will wait for its answer.</summary>
    /// <exception cref="OutboxBusException">The caller is a handler, and the option is to throw.</exception>
    public void RequestGoesDirectly(string messageType)
    {
        if (_current.Value?.Live is not { IsHandler: true })
            return;
        if (options.RequestsInHandlers == OutboxBypass.Throw)
        {
            throw new OutboxBusException(
                $"A handler makes a request of type {messageType}: its transaction stays open until the answer is there, and the request is made even if it rolls back. "
                + "Remedy: publish or send a message and handle its answer in a handler or saga, or set Publishing.RequestsInHandlers.");
        }

        if (options.RequestsInHandlers == OutboxBypass.Warn && _warnedOfRequests.TryAdd(messageType, 0))
            logger.RequestInHandler(messageType);
    }

    private sealed class Inside(Inside? outer, bool isHandler) : IDisposable
    {
        private volatile bool _ended;

        // A scope that the handler makes is inside it.
        public bool IsHandler => isHandler || outer?.Live is { IsHandler: true };

        // One that has ended still flows in calls that outlive it.
        public Inside? Live => _ended ? outer?.Live : this;

        public void Dispose() => _ended = true;
    }
}
