using System.Reflection;
using FluentAssertions;
using MassTransit;
using MassTransit.Configuration;
using MassTransit.DependencyInjection;
using MassTransit.Transports;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using OutboxBus.EndToEnd.Tests.Delivery;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Starting;

[Collection(TracesOfMassTransit.Name)]
public sealed class AtStart
{
    private const int SchemaNotChecked = 404;

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task Missing_tables_stop_the_host_with_the_remedy(StackKind kind)
    {
        await using var stack = await Stack.CreateAsync(kind);
        var (host, _) = App.CreateHost(stack);
        using (host)
        {
            (await host.Awaiting(self => self.StartAsync()).Should().ThrowAsync<OutboxBusException>())
                .WithMessage("*tables are missing*ShopDb*dotnet ef migrations add*");
        }
    }

    [Fact]
    public async Task Invalid_options_stop_the_host_and_are_reported_all_at_once()
    {
        await using var stack = Stack.SqliteInMemory();
        await using (var db = stack.Open())
            await db.Database.EnsureCreatedAsync();
        var (host, _) = App.CreateHost(stack, bus => bus
            .Delivery(delivery => (delivery.MaxAttempts, delivery.SendTimeout) = (0, delivery.Lease))
            .Inbox(inbox => inbox.PurgeBatch = 0));
        using (host)
        {
            var failure = (await host.Awaiting(self => self.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;
            failure.Failures.Should().HaveCount(3).And.Contain(text => text.Contains("MaxAttempts is 0"))
                .And.Contain(text => text.Contains("SendTimeout")).And.Contain(text => text.Contains("PurgeBatch is 0"));
        }
    }

    [SkippableFact]
    public async Task A_host_whose_database_is_down_starts_and_delivers_when_it_is_back()
    {
        await using var postgres = await Servers.PrivatePostgresAsync();
        await using var stack = Stack.Of(await postgres.CreateDatabaseAsync("start"), await Servers.RabbitMqVirtualHostAsync("start"));
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await postgres.StopAsync();

        var (host, logs) = App.CreateHost(stack, bus => bus.AddHandler<ReserveHandler>());
        using (host)
        {
            await host.StartAsync();
            logs.Count(SchemaNotChecked).Should().Be(1);
            await postgres.RestartAsync();

            await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 1, "the message that waited is consumed");
            await stack.DrainedAsync();
            await host.StopAsync();
        }
    }

    [Fact]
    public async Task Direct_sends_on_another_broker_stop_the_host_with_the_remedy()
    {
        await using var stack = Stack.SqliteInMemory();
        var start = () => App.StartMassTransitAsync(
            stack, bus => bus.SendDirectlyToRabbitMq(), services: services => services.Replace(ServiceDescriptor.Singleton(provider => BusElsewhere.Instead(provider.GetRequiredService<Bind<IBus, IBusInstance>>().Value))));

        (await start.Should().ThrowAsync<OutboxBusException>()).WithMessage("*directly to RabbitMQ*the bus is on sb*UsingRabbitMq*");
    }

    [Fact]
    public async Task Direct_sends_stay_out_of_the_way_when_a_test_puts_the_in_memory_transport_in()
    {
        await using var stack = Stack.SqliteInMemory();
        await using var app = await App.StartMassTransitAsync(stack, bus => bus.SendDirectlyToRabbitMq());

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await stack.DrainedAsync();
    }

    [SkippableFact]
    public async Task An_existing_application_chooses_direct_sends()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync("spy", typeof(OrderPlaced));
        await using var app = await App.StartMassTransitAsync(
            stack, bus => bus.SendDirectlyToRabbitMq(), services: services => services.AddLogging(logging => logging.AddFilter(nameof(MassTransit), LogLevel.Debug)));

        for (var message = 0; message < 100; message++)
            await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await stack.DrainedAsync();

        (await broker.CountAsync("spy")).Should().Be(100);
        app.Logs.All.Count(line => line.Text.StartsWith("SEND ", StringComparison.Ordinal)).Should().BeInRange(1, 99, "most went directly");
    }

    /// <summary>A bus that says it is on a broker that no test has.</summary>
    public class BusElsewhere : DispatchProxy
    {
        private IBusInstance? _bus;

        public static IBusInstance Instead(IBusInstance bus)
        {
            var elsewhere = Create<IBusInstance, BusElsewhere>();
            ((BusElsewhere)(object)elsewhere)._bus = bus;
            return elsewhere;
        }

        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
            => targetMethod!.ReturnType == typeof(IHostConfiguration) ? Create<IHostConfiguration, HostElsewhere>() : targetMethod.Invoke(_bus, args);
    }

    public class HostElsewhere : DispatchProxy
    {
        protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
            => targetMethod!.ReturnType == typeof(Uri) ? new Uri("sb://shop.example.net") : null;
    }
}
