using MassTransit;
using OutboxBus.Publishing;

namespace OutboxBus.MassTransit.Publishing;

/// <summary>Sees what goes to the broker without being captured, before it goes.</summary>
internal sealed class BypassObserver(Lazy<BypassGuard> guard) : IPublishObserver, ISendObserver
{
    public Task PrePublish<T>(PublishContext<T> context)
        where T : class => Check(context);

    public Task PostPublish<T>(PublishContext<T> context)
        where T : class => Task.CompletedTask;

    public Task PublishFault<T>(PublishContext<T> context, Exception exception)
        where T : class => Task.CompletedTask;

    public Task PreSend<T>(SendContext<T> context)
        where T : class => Check(context);

    public Task PostSend<T>(SendContext<T> context)
        where T : class => Task.CompletedTask;

    public Task SendFault<T>(SendContext<T> context, Exception exception)
        where T : class => Task.CompletedTask;

    private Task Check<T>(SendContext<T> context)
        where T : class
    {
        if (context.RequestId is null)
            guard.Value.MessageGoesDirectly(MessageUrn.ForTypeString<T>());
        // An answer to one has the id, too, but wants none.
        else if (context.ResponseAddress is not null)
            guard.Value.RequestGoesDirectly(MessageUrn.ForTypeString<T>());
        return Task.CompletedTask;
    }
}
