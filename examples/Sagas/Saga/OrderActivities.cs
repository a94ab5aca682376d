using MassTransit;
using Sagas.Contracts;

namespace Sagas.Saga;

/// <summary>What several events of the state machine do.</summary>
internal static class OrderActivities
{
    public static void Take(this OrderState saga, OrderSubmitted order)
        => (saga.Customer, saga.Product, saga.Quantity, saga.Cents) = (order.Customer, order.Product, order.Quantity, order.Cents);

    /// <summary>Asks for each part that is done to be undone.</summary>
    public static EventActivityBinder<OrderState, TEvent> UndoWhatIsDone<TEvent>(this EventActivityBinder<OrderState, TEvent> on)
        where TEvent : class => on
            .If(context => context.Saga.Payment == Leg.Done, undo => undo
                .Then(context => context.Saga.Payment = Leg.Undoing)
                .Publish(context => new RefundPayment(context.Saga.CorrelationId, context.Saga.Cents)))
            .If(context => context.Saga.Stock == Leg.Done, undo => undo
                .Then(context => context.Saga.Stock = Leg.Undoing)
                .Publish(context => new ReleaseStock(context.Saga.CorrelationId, context.Saga.Product, context.Saga.Quantity)))
            .If(context => context.Saga.Shipping == Leg.Done, undo => undo
                .Then(context => context.Saga.Shipping = Leg.Undoing)
                .Publish(context => new RecallParcel(context.Saga.CorrelationId)));

    /// <summary>Two answers may come at once; the second one, whichever that is, sees what the first has changed.</summary>
    public static EventActivityBinder<OrderState, TEvent> EndWhenUndone<TEvent>(this EventActivityBinder<OrderState, TEvent> on, State end)
        where TEvent : class => on.If(context => !context.Saga.IsBeingUndone, undone => undone.MoveTo(end));

    /// <summary>Goes to a state and notes that in the history.</summary>
    public static EventActivityBinder<OrderState, TEvent> MoveTo<TEvent>(this EventActivityBinder<OrderState, TEvent> on, State state)
        where TEvent : class => on
            .TransitionTo(state)
            .Then(context => context.Saga.History.Add(new HistoryEntry { State = state.Name, Event = typeof(TEvent).Name, At = DateTime.UtcNow }));
}
