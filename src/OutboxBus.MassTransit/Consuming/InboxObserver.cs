using MassTransit;
using MassTransit.DependencyInjection;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Diagnostics;

namespace OutboxBus.MassTransit.Consuming;

/// <summary>
/// Adds the inbox to everything that consumes on an endpoint, innermost: a retry configured on the consumer or saga stays
/// outside, so that each attempt has a scope, a context and a transaction of its own.
/// </summary>
internal sealed class InboxObserver(IRegistrationContext context, TimeProvider time)
    : IConsumerConfigurationObserver, ISagaConfigurationObserver, IHandlerConfigurationObserver, IActivityConfigurationObserver
{
    private readonly Dictionary<Type, int> _handlers = [];
    private readonly OutboxWatch? _watch = context.GetService<OutboxWatch>();

    // Runs before the consumer's own observers are asked; what connects now is asked last and so ends up innermost.
    public void ConsumerConfigured<TConsumer>(IConsumerConfigurator<TConsumer> configurator)
        where TConsumer : class => configurator.ConnectConsumerConfigurationObserver(new InnermostOfConsumer(this));

    public void ConsumerMessageConfigured<TConsumer, TMessage>(IConsumerMessageConfigurator<TConsumer, TMessage> configurator)
        where TConsumer : class
        where TMessage : class
    {
    }

    public void SagaConfigured<TSaga>(ISagaConfigurator<TSaga> configurator)
        where TSaga : class, ISaga => configurator.ConnectSagaConfigurationObserver(new InnermostOfSaga(this));

    public void StateMachineSagaConfigured<TInstance>(ISagaConfigurator<TInstance> configurator, SagaStateMachine<TInstance> stateMachine)
        where TInstance : class, ISaga, SagaStateMachineInstance
    {
    }

    public void SagaMessageConfigured<TSaga, TMessage>(ISagaMessageConfigurator<TSaga, TMessage> configurator)
        where TSaga : class, ISaga
        where TMessage : class
    {
    }

    // A delegate has no name: what tells those of one message type apart is the order in which they are configured.
    public void HandlerConfigured<TMessage>(IHandlerConfigurator<TMessage> configurator)
        where TMessage : class
    {
        var number = _handlers[typeof(TMessage)] = _handlers.GetValueOrDefault(typeof(TMessage)) + 1;
        configurator.UseFilter(FilterFor<TMessage>(number == 1 ? "handler" : $"handler-{number}"));
    }

    public void ActivityConfigured<TActivity, TArguments>(IExecuteActivityConfigurator<TActivity, TArguments> configurator, Uri compensateAddress)
        where TActivity : class, IExecuteActivity<TArguments>
        where TArguments : class => ExecuteActivityConfigured(configurator);

    public void ExecuteActivityConfigured<TActivity, TArguments>(IExecuteActivityConfigurator<TActivity, TArguments> configurator)
        where TActivity : class, IExecuteActivity<TArguments>
        where TArguments : class
    {
        configurator.RoutingSlip(slip => AddToSlip(slip, typeof(TActivity)));
        configurator.UseFilter(new ActivityAttemptFilter<ExecuteActivityContext<TActivity, TArguments>>());
    }

    public void CompensateActivityConfigured<TActivity, TLog>(ICompensateActivityConfigurator<TActivity, TLog> configurator)
        where TActivity : class, ICompensateActivity<TLog>
        where TLog : class
    {
        configurator.RoutingSlip(slip => AddToSlip(slip, typeof(TActivity)));
        configurator.UseFilter(new ActivityAttemptFilter<CompensateActivityContext<TActivity, TLog>>());
    }

    private void AddToSlip(IRoutingSlipConfigurator slip, Type activity)
        => slip.UseFilter(new ActivityInboxFilter(new ConsumeScopeProvider(context), time, HandlerTypes.StableName(activity), _watch));

    private IFilter<ConsumeContext<TMessage>> FilterFor<TMessage>(string consumer)
        where TMessage : class
    {
        var scopes = new ConsumeScopeProvider(context);
        return typeof(TMessage).IsGenericType && typeof(TMessage).GetGenericTypeDefinition() == typeof(Batch<>)
            ? (IFilter<ConsumeContext<TMessage>>)Activator.CreateInstance(typeof(BatchInboxFilter<>).MakeGenericType(typeof(TMessage).GetGenericArguments()), scopes, time, consumer, _watch)!
            : new InboxFilter<TMessage>(scopes, time, consumer, _watch);
    }

    /// <summary>The same object that is configured, seen as the pipe before the consumer or instance is there: that must come from the filter's scope.</summary>
    private void AddBefore<TMessage>(object configurator, Type consumer)
        where TMessage : class
    {
        if (configurator is not IPipeConfigurator<ConsumeContext<TMessage>> pipe)
            throw new OutboxBusException($"The inbox cannot be added to {consumer}: MassTransit configures it in an unexpected way.");
        pipe.UseFilter(FilterFor<TMessage>(HandlerTypes.StableName(consumer)));
    }

    private sealed class InnermostOfConsumer(InboxObserver observer) : IConsumerConfigurationObserver
    {
        public void ConsumerConfigured<TConsumer>(IConsumerConfigurator<TConsumer> configurator)
            where TConsumer : class
        {
        }

        public void ConsumerMessageConfigured<TConsumer, TMessage>(IConsumerMessageConfigurator<TConsumer, TMessage> configurator)
            where TConsumer : class
            where TMessage : class => observer.AddBefore<TMessage>(configurator, typeof(TConsumer));
    }

    private sealed class InnermostOfSaga(InboxObserver observer) : ISagaConfigurationObserver
    {
        public void SagaConfigured<TSaga>(ISagaConfigurator<TSaga> configurator)
            where TSaga : class, ISaga
        {
        }

        public void StateMachineSagaConfigured<TInstance>(ISagaConfigurator<TInstance> configurator, SagaStateMachine<TInstance> stateMachine)
            where TInstance : class, ISaga, SagaStateMachineInstance
        {
        }

        public void SagaMessageConfigured<TSaga, TMessage>(ISagaMessageConfigurator<TSaga, TMessage> configurator)
            where TSaga : class, ISaga
            where TMessage : class => observer.AddBefore<TMessage>(configurator, typeof(TSaga));
    }
}
