using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using OutboxBus.TestServers;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>Two applications that deliver nothing by themselves, so that a test can send the same envelopes both ways.</summary>
internal sealed class Senders : IAsyncDisposable
{
    private readonly Stack _stack;
    private readonly App _directly;
    private readonly App _overMassTransit;

    private Senders(Stack stack, App directly, App overMassTransit)
    {
        _stack = stack;
        _directly = directly;
        _overMassTransit = overMassTransit;
    }

    public IEnvelopeSender Direct => _directly.Services.GetRequiredService<IEnvelopeSender>();

    public IEnvelopeSender MassTransit => _overMassTransit.Services.GetRequiredService<IEnvelopeSender>();

    public App DirectApp => _directly;

    /// <summary>How many messages of the direct application have gone through MassTransit all the same.</summary>
    public int Detours => _directly.Logs.All.Count(line => line.Text.StartsWith("SEND ", StringComparison.Ordinal));

    public static async Task<Senders> StartAsync(Stack stack, Action<IServiceCollection>? services = null)
    {
        // What a message has left of its life is the same whoever sends it.
        var clock = new StoppedClock(DateTimeOffset.UtcNow);
        stack.SendsDirectly = false;
        var overMassTransit = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false), AddServices);
        stack.SendsDirectly = true;
        return new Senders(stack, await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false), AddServices), overMassTransit);

        void AddServices(IServiceCollection collection)
        {
            collection.AddSingleton<TimeProvider>(clock);
            collection.AddLogging(logging => logging.AddFilter(nameof(MassTransit), LogLevel.Debug));
            services?.Invoke(collection);
        }
    }

    /// <summary>Captures what is published or sent, and returns the stored envelopes.</summary>
    public async Task<IReadOnlyList<Envelope>> CaptureAsync(Func<IServiceProvider, Task> act)
    {
        await _stack.ReadAsync(db => db.Outbox.ExecuteDeleteAsync());
        await _directly.InScopeAsync(async (services, db) =>
        {
            await act(services);
            await db.SaveChangesAsync();
        });
        return await _stack.ReadAsync(db => db.Outbox.AsNoTracking().OrderBy(envelope => envelope.Id).ToListAsync());
    }

    public async Task<Envelope> CaptureAsync<T>(T message, Action<PublishContext<T>>? set = null)
        where T : class
        => (await CaptureAsync(services => services.GetRequiredService<IPublishEndpoint>().Publish(message, context => set?.Invoke(context)))).Single();

    public Task<Envelope> CaptureAsync<T>(string destination, T message, Action<SendContext<T>>? set = null)
        where T : class => CaptureAsync(new Uri(destination), message, set);

    /// <summary>Sends until a message of this kind has gone directly.</summary>
    public Task WarmUpAsync(Envelope envelope) => Eventually.BecomesAsync(
        async () =>
        {
            var before = Detours;
            return (await Direct.SendAsync(envelope, CancellationToken.None)).Kind == SendOutcomeKind.Confirmed && Detours == before;
        },
        "a message goes directly");

    public async ValueTask DisposeAsync()
    {
        await _directly.DisposeAsync();
        await _overMassTransit.DisposeAsync();
    }

    private async Task<Envelope> CaptureAsync<T>(Uri destination, T message, Action<SendContext<T>>? set)
        where T : class
        => (await CaptureAsync(async services =>
        {
            var endpoint = await services.GetRequiredService<ISendEndpointProvider>().GetSendEndpoint(destination);
            await endpoint.Send(message, context => set?.Invoke(context));
        })).Single();

    private sealed class StoppedClock(DateTimeOffset now) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => now;
    }
}
