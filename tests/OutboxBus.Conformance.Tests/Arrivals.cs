using System.Collections.Concurrent;

namespace OutboxBus.Conformance.Tests;

// What a handler has received.
public sealed class Arrivals
{
    private readonly ConcurrentQueue<string> _numbers = new();

    public IReadOnlyCollection<string> Numbers => _numbers;

    public bool Contains(string number) => _numbers.Contains(number);

    public sealed class Handler(Arrivals arrivals) : IMessageHandler<OrderPlaced>
    {
        public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
        {
            arrivals._numbers.Enqueue(message.Number);
            return Task.CompletedTask;
        }
    }
}
