using System.Collections.Concurrent;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using OutboxBus.Diagnostics;
using OutboxBus.MassTransit;

namespace OutboxBus.Conformance.Tests;

// An application put together as a user does it. Delivery is off unless asked for, so that rows can be looked at.
public sealed class Shop : IAsyncDisposable
{
    private readonly IHost _host;

    private Shop(IHost host, ConcurrentQueue<Envelope> sent, ConcurrentQueue<string> errors)
    {
        _host = host;
        Sent = sent;
        Errors = errors;
    }

    // What delivery was about to send, noted before each send.
    public ConcurrentQueue<Envelope> Sent { get; }

    // Logged errors of OutboxBus.
    public ConcurrentQueue<string> Errors { get; }

    internal HandOff HandOff => _host.Services.GetRequiredService<HandOff>();

    public IServiceProvider Services => _host.Services;

    public static Shop Create(
        TestDatabase database,
        Action<OutboxBusConfigurator>? bus = null,
        Action<IServiceCollection>? services = null,
        Action<DbContextOptionsBuilder>? context = null,
        bool delivers = false,
        bool pooled = false,
        string? connectionString = null,
        Action<IServiceCollection, Action<DbContextOptionsBuilder>>? register = null)
    {
        var sent = new ConcurrentQueue<Envelope>();
        var errors = new ConcurrentQueue<string>();
        var builder = new HostApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
        builder.ConfigureContainer(new DefaultServiceProviderFactory(new ServiceProviderOptions { ValidateScopes = true }));
        builder.Logging.AddProvider(new ErrorLog(errors));
        void Configure(DbContextOptionsBuilder options)
        {
            database.Configure(options, connectionString ?? database.ConnectionString);
            context?.Invoke(options);
        }

        if (register is not null)
            register(builder.Services, Configure);
        else if (pooled)
            builder.Services.AddDbContextPool<ShopDb>(Configure, poolSize: 1);
        else
            builder.Services.AddDbContext<ShopDb>(Configure);
        builder.Services.AddSingleton(new FaultPoints((point, envelope) =>
        {
            if (point == FaultPoint.BeforeSend)
                sent.Enqueue(envelope!);
            return ValueTask.CompletedTask;
        }));
        services?.Invoke(builder.Services);
        builder.Services.AddOutboxBus(outbox =>
        {
            outbox.UseEntityFrameworkCore<ShopDb>(database.Choose);
            outbox.UseInMemory();
            outbox.Delivery(delivery => delivery.Enabled = delivers);
            bus?.Invoke(outbox);
        });
        return new Shop(builder.Build(), sent, errors);
    }

    public Task StartAsync() => _host.StartAsync();

    // Whatever was handed off is sent before this returns.
    public Task StopAsync() => _host.StopAsync();

    public AsyncServiceScope Scope() => _host.Services.CreateAsyncScope();

    // One request to the application.
    public async Task InScopeAsync(Func<ShopDb, IOutboxContext, Task> request)
    {
        await using var scope = Scope();
        await request(scope.ServiceProvider.GetRequiredService<ShopDb>(), scope.ServiceProvider.GetRequiredService<IOutboxContext>());
    }

    public ValueTask DisposeAsync() => ((IAsyncDisposable)_host).DisposeAsync();

    private sealed class ErrorLog(ConcurrentQueue<string> errors) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName)
            => categoryName.StartsWith(nameof(OutboxBus), StringComparison.Ordinal) ? this : NullLogger.Instance;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
                errors.Enqueue(formatter(state, exception));
        }

        public void Dispose()
        {
        }
    }
}
