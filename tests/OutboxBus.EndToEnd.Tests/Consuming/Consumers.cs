using MassTransit;
using OutboxBus.EndToEnd.Tests.Support;

namespace OutboxBus.EndToEnd.Tests.Consuming;

public sealed record Leaf(string From);

public sealed record WeightAsked(Guid OrderId);

public sealed record WeightTold(Guid OrderId, int Grams);

public sealed class LeafHandler(Probe probe) : IMessageHandler<Leaf>
{
    public Task Handle(Leaf message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("leaf", message.From);
        return Task.CompletedTask;
    }
}

public sealed class LeafConsumer(Probe probe) : IConsumer<Leaf>
{
    public Task Consume(ConsumeContext<Leaf> context)
    {
        probe.Saw("leaf", context.Message.From);
        return Task.CompletedTask;
    }
}

public sealed class FanningHandler(ShopDb db, IPublishEndpoint endpoint, IOutboxContext outbox) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Add(new Effect { OrderId = message.OrderId, By = "fanning" });
        await context.Publish(new Leaf("context.Publish"), cancellationToken: cancellationToken);
        await context.Send("leaf", new Leaf("context.Send"), cancellationToken: cancellationToken);
        await endpoint.Publish(new Leaf("IPublishEndpoint"), cancellationToken);
        await outbox.Publish(new Leaf("IOutboxContext"), cancellationToken: cancellationToken);
    }
}

public sealed class FanningConsumer(ShopDb db, IPublishEndpoint endpoint, IOutboxContext outbox) : IConsumer<OrderPlaced>
{
    public async Task Consume(ConsumeContext<OrderPlaced> context)
    {
        db.Add(new Effect { OrderId = context.Message.OrderId, By = "fanning" });
        await context.Publish(new Leaf("context.Publish"));
        await context.Send(new Uri("queue:leaf"), new Leaf("context.Send"));
        await endpoint.Publish(new Leaf("IPublishEndpoint"));
        await outbox.Publish(new Leaf("IOutboxContext"));
    }
}

public sealed class FailingHandler(ShopDb db, Probe probe) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("failing", (context.Attempt, db.ContextId));
        db.Add(new Effect { OrderId = message.OrderId, By = "failing" });
        await db.SaveChangesAsync(cancellationToken);
        await context.Publish(new Leaf("failing"), cancellationToken: cancellationToken);
        throw new InvalidOperationException("This handler always fails.");
    }
}

public sealed class RecoveringHandler(ShopDb db) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Add(new Effect { OrderId = message.OrderId, By = "recovering" });
        await context.Publish(new Leaf($"attempt {context.Attempt}"), cancellationToken: cancellationToken);
        if (context.Attempt == 1)
            throw new InvalidOperationException("The first attempt fails.");
    }
}

public sealed class FaultHandler(Probe probe) : IMessageHandler<Fault<OrderPlaced>>
{
    public Task Handle(Fault<OrderPlaced> message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("fault", message.FaultedMessageId);
        return Task.CompletedTask;
    }
}

public sealed class PriceHandler : IMessageHandler<PriceAsked>
{
    public Task Handle(PriceAsked message, IMessageContext context, CancellationToken cancellationToken)
        => context.Respond(new PriceTold(message.OrderId, 12.5m), cancellationToken);
}

public sealed class WeightConsumer : IConsumer<WeightAsked>
{
    public Task Consume(ConsumeContext<WeightAsked> context) => context.RespondAsync(new WeightTold(context.Message.OrderId, 3));
}

public sealed class FirstHandler(ShopDb db, Probe probe) : IMessageHandler<OrderPlaced>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("first");
        db.Add(new Effect { OrderId = message.OrderId, By = "first" });
        return Task.CompletedTask;
    }
}

public sealed class SecondHandler(ShopDb db, Probe probe) : IMessageHandler<OrderPlaced>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("second");
        db.Add(new Effect { OrderId = message.OrderId, By = "second" });
        return Task.CompletedTask;
    }
}

public sealed class VersatileHandler(Probe probe) : IMessageHandler<OrderPlaced>, IMessageHandler<StockReserved>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("versatile", nameof(OrderPlaced));
        return Task.CompletedTask;
    }

    public Task Handle(StockReserved message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw("versatile", nameof(StockReserved));
        return Task.CompletedTask;
    }
}

/// <summary>Each message waits for a second one, so that the limit is reached, and would be passed if it were not kept.</summary>
public sealed class NarrowHandler(Probe probe) : IMessageHandler<OrderPlaced>
{
    private static readonly Lock Gate = new();
    private static TaskCompletionSource? s_waiting;
    private static int s_now;

    public static int Most { get; private set; }

    public static void Reset() => (s_waiting, s_now, Most) = (null, 0, 0);

    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        Task company;
        lock (Gate)
        {
            Most = Math.Max(Most, ++s_now);
            if (s_waiting is { } waiting)
            {
                s_waiting = null;
                waiting.SetResult();
                company = Task.CompletedTask;
            }
            else
            {
                s_waiting = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                company = s_waiting.Task;
            }
        }

        await company.WaitAsync(cancellationToken);
        lock (Gate)
            s_now--;
        probe.Saw("narrow");
    }
}
