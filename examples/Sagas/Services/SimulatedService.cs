using Sagas.Data;

namespace Sagas.Services;

/// <summary>The services that the shop depends on.</summary>
public enum Service
{
    Payment,
    Stock,
    Shipping,
}

/// <summary>What a service does when it is asked.</summary>
public enum Behaviour
{
    Accept,
    Refuse,

    /// <summary>Nothing, until it is told through the API what to answer to this order.</summary>
    Silent,
}

/// <summary>How a service behaves; without a row it accepts.</summary>
public sealed class ServiceSetting
{
    public Service Service { get; init; }

    public Behaviour Behaviour { get; set; }
}

/// <summary>That a service was asked about an order, and what it has answered.</summary>
public sealed class Question
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    public Service Service { get; init; }

    /// <summary>Null: nothing yet.</summary>
    public Behaviour? Answer { get; set; }
}

/// <summary>A service outside the shop, simulated: it accepts, refuses or keeps silent, as it is told through the API.</summary>
public abstract class SimulatedService(SagasDb db, Service service)
{
    protected SagasDb Db => db;

    /// <summary>Does what it was asked for, and says so.</summary>
    protected abstract Task AcceptAsync(Order order, CancellationToken cancellationToken);

    /// <summary>Says that it will not do it.</summary>
    protected abstract Task RefuseAsync(Order order, CancellationToken cancellationToken);

    /// <summary>Answers now: from a handler in its transaction, from the API with the next SaveChanges.</summary>
    public async Task AnswerAsync(Question question, Behaviour answer, CancellationToken cancellationToken)
    {
        var order = (await db.Orders.FindAsync([question.OrderId], cancellationToken))!;
        question.Answer = answer;
        await (answer == Behaviour.Accept ? AcceptAsync(order, cancellationToken) : RefuseAsync(order, cancellationToken));
    }

    protected async Task AskedAsync(Guid orderId, CancellationToken cancellationToken)
    {
        var question = new Question { OrderId = orderId, Service = service };
        db.Questions.Add(question);
        var setting = await db.Settings.FindAsync([service], cancellationToken);
        if (setting is not { Behaviour: Behaviour.Silent })
            await AnswerAsync(question, setting?.Behaviour ?? Behaviour.Accept, cancellationToken);
    }
}
