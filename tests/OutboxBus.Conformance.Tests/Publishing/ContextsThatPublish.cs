using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// A DbContext that takes a publisher, to publish its domain events while it saves: in MassTransit's own outbox the two wait for each other for ever.
public sealed class ContextsThatPublish(SqliteDatabase database) : SuiteOn<SqliteDatabase>(database)
{
    [Theory]
    [InlineData(typeof(IPublishEndpoint))]
    [InlineData(typeof(IOutboxContext))]
    public async Task Publish_within_their_own_save_in_requests_and_in_handlers(Type publisher)
    {
        var database = await Database.CreateAsync();
        var builder = new HostApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
        builder.Services.AddLogging();
        builder.Services.AddSingleton<Arrivals>();
        builder.Services.AddSingleton(new Publisher(publisher));
        builder.Services.AddDbContext<EventfulDb>(options => Database.Configure(options, database));
        builder.Services.AddOutboxBus(bus => bus
            .UseEntityFrameworkCore<EventfulDb>(Database.Choose)
            .UseInMemory()
            .AddHandler<ReorderHandler>()
            .AddHandler<Arrivals.Handler>());
        using var host = builder.Build();
        await using (var scope = host.Services.CreateAsyncScope())
            await scope.ServiceProvider.GetRequiredService<EventfulDb>().Database.EnsureCreatedAsync();
        await host.StartAsync();

        await using (var scope = host.Services.CreateAsyncScope())
        {
            var db = scope.ServiceProvider.GetRequiredService<EventfulDb>();
            db.Add(new Order { Number = "from a request" });
            (await db.SaveChangesAsync()).Should().Be(1);
            await scope.ServiceProvider.GetRequiredService<IOutboxContext>().Publish(new Reorder("from a handler"));
            await db.SaveChangesAsync();
        }

        var arrivals = host.Services.GetRequiredService<Arrivals>();
        await Eventually.BecomesAsync(() => arrivals.Contains("from a request") && arrivals.Contains("from a handler"), "both have arrived");
        await host.StopAsync();
        arrivals.Numbers.Should().HaveCount(2);
    }

    public sealed record Reorder(string Number);

    public sealed record Publisher(Type Service);

    public sealed class ReorderHandler(EventfulDb db) : IMessageHandler<Reorder>
    {
        public Task Handle(Reorder message, IMessageContext context, CancellationToken cancellationToken)
        {
            db.Add(new Order { Number = message.Number });
            return Task.CompletedTask;
        }
    }

    public sealed class EventfulDb(DbContextOptions<EventfulDb> options, IPublishEndpoint publishEndpoint, IOutboxContext outbox, Publisher publisher) : DbContext(options)
    {
        public override async Task<int> SaveChangesAsync(bool acceptAllChangesOnSuccess, CancellationToken cancellationToken = default)
        {
            foreach (var order in ChangeTracker.Entries<Order>().Where(entry => entry.State == EntityState.Added).ToList())
            {
                var placed = new OrderPlaced(order.Entity.Number);
                await (publisher.Service == typeof(IOutboxContext) ? outbox.Publish(placed, cancellationToken: cancellationToken) : publishEndpoint.Publish(placed, cancellationToken));
            }

            return await base.SaveChangesAsync(acceptAllChangesOnSuccess, cancellationToken);
        }

        protected override void OnModelCreating(ModelBuilder modelBuilder)
        {
            modelBuilder.Entity<Order>();
            modelBuilder.AddOutboxBus(Database);
        }
    }
}
