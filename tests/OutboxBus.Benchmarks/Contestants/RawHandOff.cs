using System.Threading.Channels;

namespace OutboxBus.Benchmarks.Contestants;

// Committed envelopes from memory to the broker; what is confirmed is deleted.
internal sealed class RawHandOff(BenchmarkStage stage, string exchange) : IAsyncDisposable
{
    private readonly Channel<Envelope> _envelopes = Channel.CreateUnbounded<Envelope>(new UnboundedChannelOptions { SingleReader = true });
    private readonly RawChannel _broker = new(stage.VirtualHost, exchange);
    private readonly RawDeletion _deletion = new(stage.ConnectionString);
    private Task _running = Task.CompletedTask;

    public async Task StartAsync()
    {
        await _broker.OpenAsync();
        _deletion.Start();
        _running = Task.Run(RunAsync);
    }

    public void Add(Envelope envelope) => _envelopes.Writer.TryWrite(envelope);

    public async ValueTask DisposeAsync()
    {
        _envelopes.Writer.TryComplete();
        await _running;
        await _deletion.DisposeAsync();
        await _broker.DisposeAsync();
    }

    private async Task RunAsync()
    {
        await foreach (var envelope in _envelopes.Reader.ReadAllAsync())
            await _broker.SendAsync(envelope, _deletion.Add);
        await _broker.DrainAsync();
    }
}
