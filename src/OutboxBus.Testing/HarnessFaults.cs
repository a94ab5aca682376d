using System.Collections.Concurrent;
using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Diagnostics;
using OutboxBus.Testing.Watching;

namespace OutboxBus.Testing;

/// <summary>Makes things go wrong, as they do in production.</summary>
public sealed class HarnessFaults
{
    private readonly HarnessWatch _watch;
    private readonly ConcurrentDictionary<string, byte> _twice = new();
    private IServiceProvider? _provider;
    private (int Messages, long Bytes)? _handOff;

    internal HarnessFaults(HarnessWatch watch)
    {
        _watch = watch;
        Points = new FaultPoints(ReachedAsync);
    }

    internal FaultPoints Points { get; }

    /// <summary>The broker is unreachable: sends fail, cost no message an attempt, and are repeated until it is back.</summary>
    public bool BrokerIsDown { get; set; }

    /// <summary>
    /// Every process dies between its commit and the hand-off to delivery: what is committed is left to its lease (30 s
    /// unless the model says otherwise), and claimed when that ends; see <c>AdvanceAsync</c>.
    /// </summary>
    public bool HandOffIsLost
    {
        get => _handOff is not null;
        set
        {
            _watch.HandOffIsLost = value;
            var delivery = _provider!.GetRequiredService<OutboxBusOptions>().Delivery;
            if (value && _handOff is null)
                (_handOff, delivery.HandOffMessages, delivery.HandOffBytes) = ((delivery.HandOffMessages, delivery.HandOffBytes), 0, 0);
            else if (!value && _handOff is var (messages, bytes))
                (_handOff, delivery.HandOffMessages, delivery.HandOffBytes) = (null, messages, bytes);
        }
    }

    /// <summary>
    /// Called at each of the named points, with the envelope where there is one: to throw, to wait, to count. At
    /// <see cref="FaultPoint.BeforeSend"/> an exception counts as a failure of the transport.
    /// </summary>
    public Func<FaultPoint, Envelope?, ValueTask>? OnReached { get; set; }

    /// <summary>From now on the broker delivers each message of a type twice, with the same id, as after a lost confirm.</summary>
    public void DeliverTwice<T>()
        where T : class => _twice[MessageUrn.ForTypeString<T>()] = 0;

    internal void Use(IServiceProvider provider) => _provider = provider;

    private async ValueTask ReachedAsync(FaultPoint point, Envelope? envelope)
    {
        if (OnReached is { } onReached)
            await onReached(point, envelope).ConfigureAwait(false);
        if (point == FaultPoint.BeforeSend && BrokerIsDown)
            throw new ConnectionException("The test harness has taken the broker away.");
        if (point != FaultPoint.AfterSend)
            return;
        if (_twice.ContainsKey(envelope!.MessageType))
            await _provider!.GetRequiredService<IEnvelopeSender>().SendAsync(envelope, CancellationToken.None).ConfigureAwait(false);
        _watch.Delivered(envelope);
    }
}
