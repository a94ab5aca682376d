using MassTransit;
using OutboxBus.MassTransit.Publishing;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>Lets MassTransit consume with a handler.</summary>
internal sealed class HandlerConsumer<THandler, TMessage>(THandler handler, ScheduledMessages scheduled) : IConsumer<TMessage>
    where THandler : class, IMessageHandler<TMessage>
    where TMessage : class
{
    public Task Consume(ConsumeContext<TMessage> context) => handler.Handle(context.Message, new MessageContext(context, scheduled), context.CancellationToken);
}

/// <summary>What is known of handler classes.</summary>
internal static class HandlerTypes
{
    /// <summary>The message types a class handles; empty if it is no handler.</summary>
    public static IReadOnlyList<Type> MessagesOf(Type handler)
        => [.. handler.GetInterfaces().Where(type => type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IMessageHandler<>)).Select(type => type.GetGenericArguments()[0])];

    /// <summary>The consumer through which MassTransit calls a handler.</summary>
    public static Type ConsumerOf(Type handler, Type message) => typeof(HandlerConsumer<,>).MakeGenericType(handler, message);

    /// <summary>The name under which the inbox knows a consumer; for a handler its own class, not the adapter's.</summary>
    public static string StableName(Type consumer)
    {
        var type = consumer.IsGenericType && consumer.GetGenericTypeDefinition() == typeof(HandlerConsumer<,>) ? consumer.GetGenericArguments()[0] : consumer;
        return type.FullName ?? type.Name;
    }

    /// <summary>The endpoint name by convention: the class name without its usual ending, in kebab case.</summary>
    public static string EndpointName(Type handler)
    {
        var name = handler.Name;
        foreach (var ending in (ReadOnlySpan<string>)["MessageHandler", "Handler", "Consumer", "Saga"])
        {
            if (name.Length > ending.Length && name.EndsWith(ending, StringComparison.Ordinal))
            {
                name = name[..^ending.Length];
                break;
            }
        }

        return KebabCaseEndpointNameFormatter.Instance.SanitizeName(name);
    }
}
