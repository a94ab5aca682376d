using System.Threading.Channels;

namespace OutboxBus.Benchmarks.Contestants;

// Committed envelopes wait for delivery in memory.
internal sealed class RawHandOff(BenchmarkStage stage, string exchange) : IAsyncDisposable
{
    private readonly Channel<Envelope> _envelopes = Channel.CreateUnbounded<Envelope>(new UnboundedChannelOptions { SingleReader = true });
    private readonly RawDelivery _delivery = new(stage, exchange);
    private Task _running = Task.CompletedTask;

    public async Task StartAsync()
    {
        await _delivery.StartAsync();
        _running = Task.Run(RunAsync);
    }

    public void Add(Envelope envelope) => _envelopes.Writer.TryWrite(envelope);

    public async ValueTask DisposeAsync()
    {
        _envelopes.Writer.TryComplete();
        await _running;
        await _delivery.DisposeAsync();
    }

    private async Task RunAsync()
    {
        await foreach (var envelope in _envelopes.Reader.ReadAllAsync())
            await _delivery.SendAsync(envelope);
    }
}
