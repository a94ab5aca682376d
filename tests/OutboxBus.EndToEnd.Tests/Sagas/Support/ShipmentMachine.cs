using MassTransit;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

public sealed record ParcelSent(Guid OrderId, int Number);

/// <summary>Another machine for the events of orders. Its state is kept as a number.</summary>
public sealed class ShipmentMachine : MassTransitStateMachine<ShipmentState>
{
    public ShipmentMachine()
    {
        InstanceState(saga => saga.CurrentState, Sending);
        Event(() => Opened, opened => opened.CorrelateById(context => context.Message.OrderId));
        Event(() => Stepped, stepped => stepped.CorrelateById(context => context.Message.OrderId));

        Initially(When(Opened).TransitionTo(Sending));
        During(Sending, When(Stepped)
            .Then(context => context.Saga.Labels.Add(new ShipmentLabel { Number = context.Saga.Labels.Count + 1 }))
            .Publish(context => new ParcelSent(context.Saga.CorrelationId, context.Saga.Labels.Count)));
    }

    public State Sending { get; } = null!;

    public Event<OrderOpened> Opened { get; } = null!;

    public Event<StepTaken> Stepped { get; } = null!;
}
