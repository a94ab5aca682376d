using System.Diagnostics;
using System.Net.Http.Json;
using Examples.Hosting;
using Microsoft.EntityFrameworkCore;
using OutboxBus;

namespace Examples.Walkthrough;

/// <summary>Where and how a walkthrough runs.</summary>
/// <param name="Engines">The database and the broker.</param>
/// <param name="Build">Makes the application, with the accidents in it.</param>
/// <param name="Accidents">What goes wrong in it.</param>
/// <param name="Transcript">What is printed.</param>
/// <param name="Patience">How long to wait for what was promised.</param>
public sealed record StageSetting(Engines Engines, Func<WebApplication> Build, Accidents Accidents, Transcript Transcript, TimeSpan Patience);

/// <summary>What the steps act with: the running application, a client of it, its database, and the transcript.</summary>
public abstract class Stage(StageSetting setting) : IAsyncDisposable
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(25);

    private WebApplication? _app;

    public Engines Engines => setting.Engines;

    public Accidents Accidents => setting.Accidents;

    public Transcript Transcript => setting.Transcript;

    /// <summary>Whose orders were accepted, as far as the walkthrough knows.</summary>
    public SortedSet<string> Accepted { get; } = new(StringComparer.Ordinal);

    public IServiceProvider Services => (_app ?? throw new InvalidOperationException("The application is not running.")).Services;

    protected HttpClient Client { get; } = new();

    /// <summary>The database, past the application.</summary>
    public abstract DbContext OpenDatabase();

    /// <summary>Takes back what a step has set in the application.</summary>
    public virtual Task ResetAsync() => Task.CompletedTask;

    public async Task StartAppAsync()
    {
        if (_app is not null)
            return;
        _app = setting.Build();
        await _app.StartAsync();
    }

    public async Task StopAppAsync()
    {
        if (_app is null)
            return;
        await _app.StopAsync();
        await _app.DisposeAsync();
        _app = null;
    }

    /// <summary>Stops the application and has an order taken by another process of it, which is killed.</summary>
    public async Task RunVictimAsync(string customer, string step)
    {
        await StopAppAsync();
        Transcript.Check("that process was killed", Victim.Killed, await Victim.RunAsync(Engines, customer, survives: Accidents.IsSabotaged(step)));
        Accepted.Add(customer);
    }

    public async Task<string> GetAsync(string path) => await Client.GetStringAsync(Address(path));

    public async Task<int> CountOutboxAsync()
    {
        await using var db = OpenDatabase();
        return await db.Set<Envelope>().CountAsync();
    }

    public Task WaitForEmptyOutboxAsync() => WaitAsync("the outbox is empty", async () => await CountOutboxAsync() == 0);

    /// <summary>Waits for a condition.</summary>
    /// <exception cref="PromiseBrokenException">It did not come true in time.</exception>
    public async Task WaitAsync(string promise, Func<Task<bool>> condition)
    {
        var started = Stopwatch.GetTimestamp();
        while (!await condition())
        {
            if (Stopwatch.GetElapsedTime(started) > setting.Patience)
                throw new PromiseBrokenException(promise, $"within {setting.Patience.TotalSeconds} s", "not yet");
            await Task.Delay(PollInterval);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopAppAsync();
        Client.Dispose();
    }

    protected Uri Address(string path) => new(new Uri(_app!.Urls.Single()), path);

    protected Task<HttpResponseMessage> PostAsync(string path) => Client.PostAsync(Address(path), content: null);

    protected async Task<HttpResponseMessage> PostAsync<TBody>(string path, TBody body, string whose)
    {
        var response = await Client.PostAsJsonAsync(Address(path), body);
        Transcript.Say($"POST {path} for {whose} -> {(int)response.StatusCode} {response.ReasonPhrase}");
        return response;
    }
}
