using MassTransit;
using Sagas.Contracts;

namespace Sagas.Saga;

/// <summary>
/// The fulfilment of an order: payment, stock, shipping, each asked for with a timeout; when one fails, what was done is
/// undone. Each event is consumed once, in one transaction with the state and with the messages it causes.
/// </summary>
public sealed class OrderStateMachine : MassTransitStateMachine<OrderState>
{
    public OrderStateMachine(AnswerLimits limits)
    {
        InstanceState(order => order.CurrentState);
        Correlate();
        Schedule(() => Overdue, order => order.OverdueToken, overdue => overdue.Received = on => on.CorrelateById(context => context.Message.OrderId));

        Initially(
            When(Submitted)
                .Then(context => context.Saga.Take(context.Message))
                .Then(context => context.Saga.Payment = Leg.Asked)
                .Publish(context => new RequestPayment(context.Saga.CorrelationId, context.Saga.Cents))
                .Schedule(Overdue, context => new AnswerOverdue(context.Saga.CorrelationId), _ => limits.Payment)
                .MoveTo(AwaitingPayment));

        During(AwaitingPayment,
            When(PaymentAccepted)
                .Then(context => (context.Saga.Payment, context.Saga.Stock) = (Leg.Done, Leg.Asked))
                .Publish(context => new ReserveStock(context.Saga.CorrelationId, context.Saga.Product, context.Saga.Quantity))
                // Takes the place of the timeout scheduled before.
                .Schedule(Overdue, context => new AnswerOverdue(context.Saga.CorrelationId), _ => limits.Stock)
                .MoveTo(AwaitingStock),
            When(PaymentRefused)
                .Then(context => context.Saga.Payment = Leg.Refused)
                .Unschedule(Overdue)
                .MoveTo(Rejected),
            When(Overdue.Received)
                .MoveTo(Cancelled));

        During(AwaitingStock,
            When(StockReserved)
                .Then(context => (context.Saga.Stock, context.Saga.Shipping) = (Leg.Done, Leg.Asked))
                .Publish(context => new ShipOrder(context.Saga.CorrelationId, context.Saga.Customer))
                .Schedule(Overdue, context => new AnswerOverdue(context.Saga.CorrelationId), _ => limits.Shipping)
                .MoveTo(AwaitingShipment),
            When(OutOfStock)
                .Then(context => context.Saga.Stock = Leg.Refused)
                .Unschedule(Overdue)
                .UndoWhatIsDone()
                .MoveTo(Cancelling),
            When(Overdue.Received)
                .UndoWhatIsDone()
                .MoveTo(Cancelling));

        During(AwaitingShipment,
            When(OrderShipped)
                .Then(context => context.Saga.Shipping = Leg.Done)
                .Unschedule(Overdue)
                .MoveTo(Completed),
            When(ShippingRefused)
                .Then(context => context.Saga.Shipping = Leg.Refused)
                .Unschedule(Overdue)
                .UndoWhatIsDone()
                .MoveTo(Cancelling),
            When(Overdue.Received)
                .UndoWhatIsDone()
                .MoveTo(Cancelling));

        During(Cancelling,
            When(PaymentRefunded, context => context.Saga.Payment == Leg.Undoing)
                .Then(context => context.Saga.Payment = Leg.Undone)
                .EndWhenUndone(Cancelled),
            When(StockReleased, context => context.Saga.Stock == Leg.Undoing)
                .Then(context => context.Saga.Stock = Leg.Undone)
                .EndWhenUndone(Cancelled),
            When(ParcelRecalled, context => context.Saga.Shipping == Leg.Undoing)
                .Then(context => context.Saga.Shipping = Leg.Undone)
                .EndWhenUndone(Cancelled));

        // What was done after the timeout is undone like the rest.
        During([Cancelling, Cancelled],
            When(PaymentAccepted, context => context.Saga.Payment == Leg.Asked)
                .Then(context => context.Saga.Payment = Leg.Done)
                .UndoWhatIsDone()
                .MoveTo(Cancelling),
            When(StockReserved, context => context.Saga.Stock == Leg.Asked)
                .Then(context => context.Saga.Stock = Leg.Done)
                .UndoWhatIsDone()
                .MoveTo(Cancelling),
            When(OrderShipped, context => context.Saga.Shipping == Leg.Asked)
                .Then(context => context.Saga.Shipping = Leg.Done)
                .UndoWhatIsDone()
                .MoveTo(Cancelling));

        // Anything else is an event that comes again, or too late to matter.
        DuringAny(
            Ignore(Submitted),
            Ignore(PaymentAccepted), Ignore(PaymentRefused), Ignore(PaymentRefunded),
            Ignore(StockReserved), Ignore(OutOfStock), Ignore(StockReleased),
            Ignore(OrderShipped), Ignore(ShippingRefused), Ignore(ParcelRecalled),
            Ignore(Overdue.Received));
    }

    public State AwaitingPayment { get; } = null!;

    public State AwaitingStock { get; } = null!;

    public State AwaitingShipment { get; } = null!;

    public State Cancelling { get; } = null!;

    public State Completed { get; } = null!;

    public State Rejected { get; } = null!;

    public State Cancelled { get; } = null!;

    public Event<OrderSubmitted> Submitted { get; } = null!;

    public Event<PaymentAccepted> PaymentAccepted { get; } = null!;

    public Event<PaymentRefused> PaymentRefused { get; } = null!;

    public Event<PaymentRefunded> PaymentRefunded { get; } = null!;

    public Event<StockReserved> StockReserved { get; } = null!;

    public Event<OutOfStock> OutOfStock { get; } = null!;

    public Event<StockReleased> StockReleased { get; } = null!;

    public Event<OrderShipped> OrderShipped { get; } = null!;

    public Event<ShippingRefused> ShippingRefused { get; } = null!;

    public Event<ParcelRecalled> ParcelRecalled { get; } = null!;

    public Schedule<OrderState, AnswerOverdue> Overdue { get; } = null!;

    /// <summary>The order's id in a message is the id of its instance.</summary>
    private void Correlate()
    {
        Event(() => Submitted, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => PaymentAccepted, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => PaymentRefused, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => PaymentRefunded, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => StockReserved, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => OutOfStock, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => StockReleased, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => OrderShipped, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => ShippingRefused, on => on.CorrelateById(context => context.Message.OrderId));
        Event(() => ParcelRecalled, on => on.CorrelateById(context => context.Message.OrderId));
    }
}
