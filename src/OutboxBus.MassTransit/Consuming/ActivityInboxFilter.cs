using MassTransit;
using MassTransit.Courier.Contracts;
using MassTransit.DependencyInjection;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>
/// Puts the inbox around an activity of a routing slip. An activity that fails is consumed all the same: its rows and
/// messages are taken back, and the events of the routing slip that tell of the failure are committed.
/// </summary>
internal sealed class ActivityInboxFilter(IConsumeScopeProvider scopes, TimeProvider time, string consumerName, OutboxWatch? watch) : InboxFilter<RoutingSlip>(scopes, time, consumerName, watch)
{
    protected override async Task HandleAsync(InboxConsumeContext<RoutingSlip> inbox, IReadOnlyCollection<InboxKey> fresh, IUnitOfWork unit, IPipe<ConsumeContext<RoutingSlip>> next)
    {
        await unit.MarkAsync(inbox.CancellationToken).ConfigureAwait(false);
        inbox.Undo = () => unit.RollbackToMarkAsync(inbox.CancellationToken);
        await base.HandleAsync(inbox, fresh, unit, next).ConfigureAwait(false);
    }
}

/// <summary>Takes back what one attempt of an activity has done, so that a retry inside the activity's pipe finds the transaction as the first did.</summary>
internal sealed class ActivityAttemptFilter<TContext> : IFilter<TContext>
    where TContext : class, PipeContext
{
    public async Task Send(TContext context, IPipe<TContext> next)
    {
        try
        {
            await next.Send(context).ConfigureAwait(false);
        }
        catch when (context.TryGetPayload<InboxConsumeContext<RoutingSlip>>(out var inbox) && inbox.Undo is not null)
        {
            await inbox.Undo().ConfigureAwait(false);
            throw;
        }
    }

    public void Probe(ProbeContext context) => context.CreateFilterScope("outboxbus-attempt");
}
