using MassTransit;
using MassTransit.Configuration;
using MassTransit.DependencyInjection;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>
/// Adds the inbox to every consumer of an endpoint, innermost: a retry configured on the consumer stays outside, so that
/// each attempt has a scope, a context and a transaction of its own.
/// </summary>
internal sealed class InboxObserver(IRegistrationContext context, TimeProvider time) : IConsumerConfigurationObserver
{
    // Runs before the consumer's own observers are asked; what connects now is asked last and so ends up innermost.
    public void ConsumerConfigured<TConsumer>(IConsumerConfigurator<TConsumer> configurator)
        where TConsumer : class => configurator.ConnectConsumerConfigurationObserver(new Innermost(context, time));

    public void ConsumerMessageConfigured<TConsumer, TMessage>(IConsumerMessageConfigurator<TConsumer, TMessage> configurator)
        where TConsumer : class
        where TMessage : class
    {
    }

    private sealed class Innermost(IRegistrationContext context, TimeProvider time) : IConsumerConfigurationObserver
    {
        public void ConsumerConfigured<TConsumer>(IConsumerConfigurator<TConsumer> configurator)
            where TConsumer : class
        {
        }

        public void ConsumerMessageConfigured<TConsumer, TMessage>(IConsumerMessageConfigurator<TConsumer, TMessage> configurator)
            where TConsumer : class
            where TMessage : class
        {
            if (typeof(TMessage).IsGenericType && typeof(TMessage).GetGenericTypeDefinition() == typeof(Batch<>))
            {
                throw new OutboxBusException(
                    $"{typeof(TConsumer)} consumes batches, which the inbox cannot deduplicate message by message. Remedy: consume {typeof(TMessage).GetGenericArguments()[0]} instead.");
            }

            var filter = new InboxFilter<TMessage>(new ConsumeScopeProvider(context), time, HandlerTypes.StableName(typeof(TConsumer)));
            // The same object, seen as the pipe before the consumer is created: the consumer must come from the filter's scope.
            if (configurator is not IConsumerMessageConfigurator<TMessage> beforeConsumer)
                throw new OutboxBusException($"The inbox cannot be added to {typeof(TConsumer)}: MassTransit configures it in an unexpected way.");
            beforeConsumer.AddPipeSpecification(new FilterPipeSpecification<ConsumeContext<TMessage>>(filter));
        }
    }
}
