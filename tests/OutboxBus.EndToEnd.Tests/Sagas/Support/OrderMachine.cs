using MassTransit;
using OutboxBus.EndToEnd.Tests.Support;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

/// <summary>An event that begins an order, or is one more step of it; its first attempts may fail.</summary>
public sealed record OrderOpened(Guid OrderId, int FailingAttempts = 0);

public sealed record StepTaken(Guid OrderId, int FailingAttempts = 0);

public sealed record OrderClosed(Guid OrderId);

/// <summary>Published by the machine for each step.</summary>
public sealed record OrderMoved(Guid OrderId, int Steps);

/// <summary>Counts steps and tells of each. Whatever it tells and whatever is stored must agree.</summary>
public class OrderMachine : MassTransitStateMachine<OrderState>
{
    public OrderMachine(Probe probe)
        : this(probe, insertOnInitial: false)
    {
    }

    private protected OrderMachine(Probe probe, bool insertOnInitial)
    {
        InstanceState(saga => saga.CurrentState);
        Event(() => Opened, opened =>
        {
            opened.CorrelateById(context => context.Message.OrderId);
            opened.InsertOnInitial = insertOnInitial;
            opened.SetSagaFactory(context => new OrderState { CorrelationId = context.Message.OrderId });
        });
        Event(() => Stepped, stepped => stepped.CorrelateById(context => context.Message.OrderId));
        Event(() => Closed, closed => closed.CorrelateById(context => context.Message.OrderId));

        Initially(Move(When(Opened), context => context.Message.FailingAttempts).TransitionTo(Open));
        During(
            Open,
            Move(When(Opened), context => context.Message.FailingAttempts),
            Move(When(Stepped), context => context.Message.FailingAttempts),
            Move(When(Closed), _ => 0).Finalize());
        SetCompletedWhenFinalized();

        EventActivityBinder<OrderState, T> Move<T>(EventActivityBinder<OrderState, T> on, Func<BehaviorContext<OrderState, T>, int> failingAttempts)
            where T : class => on
            .Then(context =>
            {
                probe.Saw("attempt", context.GetRetryAttempt());
                context.Saga.Steps++;
            })
            .Publish(context => new OrderMoved(context.Saga.CorrelationId, context.Saga.Steps))
            .Then(context =>
            {
                if (context.GetRetryAttempt() < failingAttempts(context))
                    throw new InvalidOperationException("This attempt fails.");
            });
    }

    public State Open { get; } = null!;

    public Event<OrderOpened> Opened { get; } = null!;

    public Event<StepTaken> Stepped { get; } = null!;

    public Event<OrderClosed> Closed { get; } = null!;
}

/// <summary>The same, writing an instance's row before anything else.</summary>
public sealed class EagerOrderMachine(Probe probe) : OrderMachine(probe, insertOnInitial: true);
