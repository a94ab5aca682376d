using System.Collections.Concurrent;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

/// <summary>In whatever phase a host is stopped, it ends in time and the database alone tells the truth: the next host delivers the rest.</summary>
public sealed class When_host_stops
{
    private const int Messages = 200;
    private const string Queue = "spy";
    private const int DeliveryStopped = 202;
    private const int TransportFailed = 208;
    private const int DatabaseIsAway = 401;

    // Two seconds as configured and two for the last write make four; the rest is for a busy machine.
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(20);

    [SkippableFact]
    public Task While_it_claims() => StopAsync(
        async phase =>
        {
            await phase.StoreForOthersAsync(Messages);
            var app = await phase.StartAsync(delivery => delivery.ClaimBatch = 5);
            await phase.ArrivedAsync(20);
            return app;
        });

    [SkippableFact]
    public Task While_sends_hang() => StopAsync(
        async phase =>
        {
            var app = await phase.StartAsync();
            await phase.PublishAsync(app, 20);
            phase.Broker.Freeze();
            await phase.PublishAsync(app, 20);
            return app;
        });

    [SkippableFact]
    public Task While_the_broker_is_away() => StopAsync(
        async phase =>
        {
            var app = await phase.StartAsync();
            phase.Broker.Refuse = true;
            phase.Broker.Cut();
            await phase.PublishAsync(app, 20);
            await Eventually.BecomesAsync(() => app.Logs.Count(TransportFailed) == 1, "the circuit is open");
            return app;
        });

    [SkippableFact]
    public Task While_outcomes_cannot_be_written() => StopAsync(
        async phase =>
        {
            var app = await phase.StartAsync(delivery => delivery.SettleDelay = TimeSpan.FromSeconds(1));
            await phase.PublishAsync(app, 20);
            await phase.ArrivedAsync(20);
            phase.Database.Refuse = true;
            phase.Database.Cut();
            await Eventually.BecomesAsync(() => app.Logs.Count(DatabaseIsAway) == 1, "the outcomes cannot be written");
            return app;
        });

    [SkippableFact]
    public Task While_the_database_hangs() => StopAsync(
        async phase =>
        {
            var app = await phase.StartAsync(delivery => delivery.SettleDelay = TimeSpan.FromSeconds(1));
            await phase.PublishAsync(app, 20);
            await phase.ArrivedAsync(20);
            phase.Database.Freeze();
            return app;
        });

    [SkippableFact]
    public Task With_a_full_hand_off() => StopAsync(
        async phase =>
        {
            var app = await phase.StartAsync(delivery =>
            {
                delivery.HandOffMessages = 10;
                delivery.MaxInFlight = 1;
            });
            await phase.PublishAsync(app, Messages);
            return app;
        });

    [SkippableFact]
    public Task Before_the_bus_is_up() => StopAsync(
        async phase =>
        {
            phase.Broker.Refuse = true;
            var app = await phase.StartAsync();
            await phase.PublishAsync(app, 20);
            return app;
        });

    private static async Task StopAsync(Func<Phase, Task<App>> reachPhase)
    {
        await using var phase = await Phase.CreateAsync();
        await using (var app = await reachPhase(phase))
        {
            var stopped = app.StopAsync();
            await Eventually.BecomesAsync(() => app.Logs.Count(DeliveryStopped) == 1, "delivery has stopped").WaitAsync(StopLimit);
            // MassTransit waits longer than that for a connection that hangs.
            phase.Heal();
            await stopped;
        }

        await using (await phase.StartAsync())
            await phase.Stack.DrainedAsync();
        await phase.ArrivedAsync(phase.Stored);
        phase.Ids.Distinct().Should().HaveCount(phase.Stored);
        (await phase.Stack.ReadAsync(db => db.DeadLetters.CountAsync())).Should().Be(0);
    }

    /// <summary>An application between a database and a broker that can be taken away from it.</summary>
    private sealed class Phase : IAsyncDisposable
    {
        private RawBroker _spy = null!;

        public required TcpProxy Broker { get; init; }

        public required TcpProxy Database { get; init; }

        public required Stack Stack { get; init; }

        public required Stack Proxied { get; init; }

        public ConcurrentQueue<string> Ids { get; private set; } = [];

        public int Stored { get; private set; }

        public static async Task<Phase> CreateAsync()
        {
            var broker = await Servers.RabbitMqVirtualHostAsync("stop");
            var database = await Servers.PostgresDatabaseAsync("stop");
            var server = new NpgsqlConnectionStringBuilder(database);
            var (brokerProxy, databaseProxy) = (new TcpProxy(broker.Host, broker.Port), new TcpProxy(server.Host!, server.Port));
            var phase = new Phase
            {
                Broker = brokerProxy,
                Database = databaseProxy,
                Stack = Stack.Of(database, broker),
                Proxied = Stack.Of(
                    new NpgsqlConnectionStringBuilder(database) { Host = "127.0.0.1", Port = databaseProxy.Port }.ConnectionString,
                    new UriBuilder(broker) { Host = "127.0.0.1", Port = brokerProxy.Port }.Uri),
                _spy = await RawBroker.ConnectAsync(broker),
            };
            await phase._spy.BindAsync(Queue, typeof(OrderPlaced));
            phase.Ids = await phase._spy.CollectIdsAsync(Queue);
            return phase;
        }

        public async Task<App> StartAsync(Action<DeliveryOptions>? delivery = null)
            => await App.StartAsync(
                Proxied,
                bus => bus.Delivery(options =>
                {
                    options.StopTimeout = TimeSpan.FromSeconds(2);
                    delivery?.Invoke(options);
                }),
                services => services.Configure<MassTransitHostOptions>(host => host.WaitUntilStarted = false));

        public async Task PublishAsync(App app, int messages)
        {
            for (var message = 0; message < messages; message++, Stored++)
                await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }

        public async Task StoreForOthersAsync(int messages)
        {
            await using var app = await StartAsync(delivery => delivery.Enabled = false);
            await PublishAsync(app, messages);
        }

        public async Task ArrivedAsync(int messages)
            => await Eventually.BecomesAsync(() => Task.FromResult(Ids.Distinct().Count()), count => count >= messages, $"{messages} messages have arrived");

        public void Heal()
        {
            Broker.Refuse = Database.Refuse = false;
            Broker.Thaw();
            Database.Thaw();
        }

        public async ValueTask DisposeAsync()
        {
            Heal();
            await _spy.DisposeAsync();
            await Broker.DisposeAsync();
            await Database.DisposeAsync();
            await Proxied.DisposeAsync();
            await Stack.DisposeAsync();
        }
    }
}
