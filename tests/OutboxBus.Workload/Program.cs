using System.Diagnostics;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OutboxBus.Diagnostics;

namespace OutboxBus.Workload;

/// <summary>
/// A process that tests can let die at a named point. It runs until its standard input ends, hence no longer than the
/// test that started it.
/// </summary>
public static class Program
{
    /// <summary>Printed when the host has started.</summary>
    public const string Ready = "ready";

    /// <summary>Printed when all orders are placed.</summary>
    public const string Done = "done";

    public static async Task Main(string[] arguments)
    {
        var settings = Settings.Parse(arguments);
        using var host = CreateHost(settings);
        await host.StartAsync();
        await Console.Out.WriteLineAsync(Ready);

        for (var order = 0; order < settings.Messages; order++)
            await PlaceOrderAsync(host.Services);
        await Console.Out.WriteLineAsync(Done);

        await Console.In.ReadToEndAsync();
        await host.StopAsync();
    }

    private static IHost CreateHost(Settings settings)
    {
        var builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.AddSimpleConsole(console => console.SingleLine = true).SetMinimumLevel(LogLevel.Warning);
        builder.Services.AddDbContextFactory<LedgerDb>(db => db.UseNpgsql(settings.Postgres));
        builder.Services.Configure<MassTransitHostOptions>(host => host.WaitUntilStarted = true);
        if (settings.KillAt is { } point)
            builder.Services.AddSingleton(DieAt(point, settings.KillAfter));
        builder.Services.AddOutboxBus(bus =>
        {
            bus.UseEntityFrameworkCore<LedgerDb>(store => store.UsePostgreSql());
            bus.UseRabbitMq(settings.RabbitMq);
            bus.Inbox(inbox => inbox.Mode = settings.Inbox);
            bus.Delivery(delivery =>
            {
                delivery.Enabled = settings.Delivers;
                delivery.Lease = settings.Lease;
                delivery.SendTimeout = settings.Lease / 2;
                delivery.PollInterval = TimeSpan.FromMilliseconds(200);
            });
            if (settings.Consumes)
                bus.AddHandlers(typeof(Program).Assembly);
        });
        return builder.Build();
    }

    private static async Task PlaceOrderAsync(IServiceProvider services)
    {
        await using var scope = services.CreateAsyncScope();
        var order = new Order { Id = Guid.NewGuid() };
        scope.ServiceProvider.GetRequiredService<LedgerDb>().Add(order);
        await scope.ServiceProvider.GetRequiredService<IOutboxContext>().Publish(new OrderPlaced(order.Id));
        await scope.ServiceProvider.GetRequiredService<LedgerDb>().SaveChangesAsync();
    }

    private static FaultPoints DieAt(FaultPoint deadly, int time)
    {
        var reached = 0;
        return new FaultPoints((point, _) =>
        {
            if (point != deadly || Interlocked.Increment(ref reached) < time)
                return ValueTask.CompletedTask;
            // SIGKILL: no handler, no finally and no flush runs after it.
            using var self = Process.GetCurrentProcess();
            self.Kill();
            return new ValueTask(new TaskCompletionSource().Task);
        });
    }
}
