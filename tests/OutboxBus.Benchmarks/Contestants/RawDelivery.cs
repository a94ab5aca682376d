namespace OutboxBus.Benchmarks.Contestants;

// Envelopes to the broker; what is confirmed is deleted.
internal sealed class RawDelivery(BenchmarkStage stage, string exchange) : IAsyncDisposable
{
    private readonly RawChannel _broker = new(stage.VirtualHost, exchange);
    private readonly RawDeletion _deletion = new(stage.ConnectionString);

    public async Task StartAsync()
    {
        await _broker.OpenAsync();
        _deletion.Start();
    }

    public ValueTask SendAsync(Envelope envelope) => _broker.SendAsync(envelope, _deletion.Add);

    // When all is confirmed and deleted.
    public async ValueTask DisposeAsync()
    {
        await _broker.DrainAsync();
        await _deletion.DisposeAsync();
        await _broker.DisposeAsync();
    }
}
