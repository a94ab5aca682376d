using JasperFx.CodeGeneration;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;
using Wolverine;
using Wolverine.EntityFrameworkCore;
using Wolverine.Postgresql;
using Wolverine.RabbitMQ;

namespace OutboxBus.Benchmarks.Contestants.Wolverine;

// What both applications share: durable messaging on PostgreSQL, RabbitMQ with publisher confirms, nothing that only observes.
internal static class WolverineHost
{
    internal const string MessageSchema = "wolverine";

    internal static IHost Build(BenchmarkStage stage, Action<WolverineOptions> configure)
    {
        var builder = Silent();
        // One pool for the contexts and for the message store.
        var dataSource = NpgsqlDataSource.Create(stage.ConnectionString);
        builder.Services.AddSingleton(_ => dataSource);
        builder.Services.AddDbContextPool<WolverineShopDb>(options => options.UseNpgsql(dataSource));
        builder.UseWolverine(options =>
        {
            UseRabbitMq(options, stage);
            options.PersistMessagesWithPostgresql(dataSource, MessageSchema);
            options.UseEntityFrameworkCoreTransactions();
            options.Policies.AutoApplyTransactions();
            options.Policies.UseDurableOutboxOnAllSendingEndpoints();
            options.Policies.UseDurableInboxOnAllListeners();

            // One node: recovery, scheduled messages and cleanup stay on at their defaults, but no leader is elected.
            options.Durability.Mode = DurabilityMode.Solo;
            // Counts the rows of the message tables every five seconds, for gauges only.
            options.Durability.DurabilityMetricsEnabled = false;
            configure(options);
        });
        return builder.Build();
    }

    // Sends without a message store: nothing is persisted, but messages are marked persistent as those of a durable endpoint.
    internal static IHost BuildWithoutStore(BenchmarkStage stage, Action<WolverineOptions> configure)
    {
        var builder = Silent();
        builder.UseWolverine(options =>
        {
            UseRabbitMq(options, stage);
            options.Policies.UseDurableOutboxOnAllSendingEndpoints();
            options.Durability.Mode = DurabilityMode.Solo;
            configure(options);
        });
        return builder.Build();
    }

    internal static async Task CreateSchemaAsync(IHost host)
    {
        await using var scope = host.Services.CreateAsyncScope();
        await scope.ServiceProvider.GetRequiredService<WolverineShopDb>().Database.EnsureCreatedAsync();
    }

    private static HostApplicationBuilder Silent()
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Logging.SetMinimumLevel(LogLevel.None);
        return builder;
    }

    private static void UseRabbitMq(WolverineOptions options, BenchmarkStage stage)
    {
        options.ApplicationAssembly = typeof(WolverineHost).Assembly;
        // Handlers are named by the application that has them: a handler found by convention would get published messages locally.
        options.Discovery.DisableConventionalDiscovery();
        // From Internal/Generated: nothing is compiled at run time.
        options.CodeGeneration.TypeLoadMode = TypeLoadMode.Static;
        options.CodeGeneration.GeneratedCodeOutputPath = WolverineHandlerCode.Folder();
        options.UseRabbitMq(stage.VirtualHost)
            // Both: without tracking a publish returns after the socket write, and the outgoing row is deleted before the broker has the message.
            .ConfigureChannelCreation(channel =>
            {
                channel.PublisherConfirmationsEnabled = true;
                channel.PublisherConfirmationTrackingEnabled = true;
            })
            // Failed messages go to the dead letter table; queues are plain durable ones without arguments.
            .DisableDeadLetterQueueing()
            .DisableSystemRequestReplyQueueDeclaration()
            .AutoProvision();
    }

    internal static void Fanout(IRabbitMqBindableExchange exchange)
    {
        exchange.ExchangeType = ExchangeType.Fanout;
        exchange.IsDurable = true;
    }
}
