using OutboxBus;
using Sagas.Contracts;
using Sagas.Data;

namespace Sagas.Services;

/// <summary>The payment service.</summary>
public sealed class PaymentHandler(SagasDb db, IOutboxContext outbox)
    : SimulatedService(db, Service.Payment), IMessageHandler<RequestPayment>, IMessageHandler<RefundPayment>
{
    public Task Handle(RequestPayment message, IMessageContext context, CancellationToken cancellationToken) => AskedAsync(message.OrderId, cancellationToken);

    public async Task Handle(RefundPayment message, IMessageContext context, CancellationToken cancellationToken)
    {
        Db.Payments.Add(new PaymentEntry { OrderId = message.OrderId, Cents = -message.Cents });
        await outbox.Publish(new PaymentRefunded(message.OrderId), cancellationToken: cancellationToken);
    }

    protected override async Task AcceptAsync(Order order, CancellationToken cancellationToken)
    {
        Db.Payments.Add(new PaymentEntry { OrderId = order.Id, Cents = order.Cents });
        await outbox.Publish(new PaymentAccepted(order.Id), cancellationToken: cancellationToken);
    }

    protected override Task RefuseAsync(Order order, CancellationToken cancellationToken)
        => outbox.Publish(new PaymentRefused(order.Id), cancellationToken: cancellationToken);
}
