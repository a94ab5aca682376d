using System.Linq.Expressions;
using MassTransit;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

public sealed record PaymentAsked(Guid CorrelationId, int Amount, int FailingAttempts = 0) : CorrelatedBy<Guid>;

public sealed record PaymentReceived(Guid CorrelationId, int Amount, int FailingAttempts = 0) : CorrelatedBy<Guid>;

public sealed record PaymentNoted(Guid CorrelationId, int Amount) : CorrelatedBy<Guid>;

public sealed record RateChanged(int Threshold);

/// <summary>Published by the saga for each message it consumes.</summary>
public sealed record PaymentMoved(Guid PaymentId, int Asked, int Received);

/// <summary>A saga that is its own consumer.</summary>
public sealed class PaymentSaga : ISaga, InitiatedBy<PaymentAsked>, Orchestrates<PaymentReceived>, InitiatedByOrOrchestrates<PaymentNoted>, Observes<RateChanged, PaymentSaga>
{
    public Guid CorrelationId { get; set; }

    public int Asked { get; set; }

    public int Received { get; set; }

    public Expression<Func<PaymentSaga, RateChanged, bool>> CorrelationExpression => (saga, message) => saga.Asked >= message.Threshold;

    public Task Consume(ConsumeContext<PaymentAsked> context) => MoveAsync(context, context.Message.FailingAttempts, asked: context.Message.Amount);

    public Task Consume(ConsumeContext<PaymentReceived> context) => MoveAsync(context, context.Message.FailingAttempts, received: context.Message.Amount);

    public Task Consume(ConsumeContext<PaymentNoted> context) => MoveAsync(context, received: context.Message.Amount);

    public Task Consume(ConsumeContext<RateChanged> context) => MoveAsync(context, asked: 1);

    private async Task MoveAsync(ConsumeContext context, int failingAttempts = 0, int asked = 0, int received = 0)
    {
        Asked += asked;
        Received += received;
        await context.Publish(new PaymentMoved(CorrelationId, Asked, Received));
        if (context.GetRetryAttempt() < failingAttempts)
            throw new InvalidOperationException("This attempt fails.");
    }
}
