using MassTransit;
using Microsoft.EntityFrameworkCore;

namespace OutboxBus.Testing.Shop;

// An application as a user writes it, for servers that are not there.
public static class ShopRegistration
{
    private const string Database = "Host=192.0.2.1;Database=shop;Username=shop;Timeout=1";
    private const string Broker = "amqp://192.0.2.1/shop";

    public static void AddShop(this IServiceCollection services)
    {
        services.AddDbContextPool<ShopDb>(options => options.UseNpgsql(Database));
        services.AddOutboxBus(bus => bus
            .UseEntityFrameworkCore<ShopDb>(store => store.UsePostgreSql())
            .UseRabbitMq(Broker)
            .AddHandlers(typeof(ShopRegistration).Assembly, (_, handler) => handler.RetryDelays = [TimeSpan.Zero])
            .AddSaga<OrderMachine, OrderState>());
    }

    // The same application, grown up with MassTransit.
    public static void AddShopOnMassTransit(this IServiceCollection services)
    {
        services.AddDbContext<ShopDb>(options => options.UseNpgsql(Database));
        services.AddMassTransit(bus =>
        {
            bus.SetKebabCaseEndpointNameFormatter();
            bus.AddConsumer<StockConsumer>();
            bus.AddSagaStateMachine<OrderMachine, OrderState>();
            bus.AddOutboxBus<ShopDb>(store => store.UsePostgreSql());
            bus.UsingRabbitMq((context, transport) =>
            {
                transport.Host(new Uri(Broker));
                transport.ConfigureEndpoints(context);
            });
        });
    }

    public static void MapShop(this WebApplication app) => app.MapPost("/orders/{sku}", async (string sku, ShopDb db, IOutboxContext outbox) =>
    {
        var order = db.Add(new Order { Sku = sku }).Entity;
        await outbox.Publish(new OrderPlaced(order.Id, sku));
        await db.SaveChangesAsync();
        return Results.Created($"/orders/{order.Id}", order.Id);
    });
}

public sealed class ShopDb(DbContextOptions<ShopDb> options) : DbContext(options)
{
    public DbSet<Order> Orders => Set<Order>();

    public DbSet<Reservation> Reservations => Set<Reservation>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.AddSaga<OrderState>().Property(saga => saga.Version).IsRowVersion();
        modelBuilder.AddOutboxBus(Database);
    }
}

public sealed class Order
{
    public Guid Id { get; set; } = Guid.NewGuid();

    public string Sku { get; set; } = "";
}

public sealed class Reservation
{
    public Guid Id { get; set; } = Guid.NewGuid();

    public Guid OrderId { get; set; }
}

public sealed class OrderState : SagaStateMachineInstance
{
    public Guid CorrelationId { get; set; }

    public string CurrentState { get; set; } = "";

    public Guid? Timeout { get; set; }

    // PostgreSQL's xmin.
    public uint Version { get; set; }
}

public sealed record OrderPlaced(Guid OrderId, string Sku);

public sealed record StockReserved(Guid OrderId);

public sealed record OrderPaid(Guid OrderId);

public sealed record OrderTimedOut(Guid OrderId);

public sealed record OrderCancelled(Guid OrderId);

public sealed record Reminder(string Text);

public sealed class ReserveStockHandler(ShopDb db) : IMessageHandler<OrderPlaced>
{
    public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        db.Add(new Reservation { OrderId = message.OrderId });
        await context.Publish(new StockReserved(message.OrderId), cancellationToken: cancellationToken);
        if (message.Sku == "cursed")
            throw new InvalidOperationException("There is none.");
    }
}

public sealed class StockConsumer(ShopDb db) : IConsumer<OrderPlaced>
{
    public Task Consume(ConsumeContext<OrderPlaced> context)
    {
        db.Add(new Reservation { OrderId = context.Message.OrderId });
        return context.Publish(new StockReserved(context.Message.OrderId));
    }
}

public sealed class StrayHandler(IBus bus) : IMessageHandler<Reminder>
{
    public Task Handle(Reminder message, IMessageContext context, CancellationToken cancellationToken)
        => message.Text == "stray" ? bus.Publish(new OrderCancelled(Guid.NewGuid()), cancellationToken) : Task.CompletedTask;
}

// An order that is not paid within a day is cancelled.
public sealed class OrderMachine : MassTransitStateMachine<OrderState>
{
    public OrderMachine()
    {
        InstanceState(order => order.CurrentState);
        Event(() => Placed, order => order.CorrelateById(context => context.Message.OrderId));
        Event(() => Paid, order => order.CorrelateById(context => context.Message.OrderId));
        Schedule(() => Timeout, order => order.Timeout, schedule =>
        {
            schedule.Delay = TimeSpan.FromDays(1);
            schedule.Received = timedOut => timedOut.CorrelateById(context => context.Message.OrderId);
        });
        Initially(When(Placed).Schedule(Timeout, context => new OrderTimedOut(context.Message.OrderId)).TransitionTo(Open));
        During(
            Open,
            When(Paid).Unschedule(Timeout).TransitionTo(Done),
            When(Timeout!.Received).Publish(context => new OrderCancelled(context.Saga.CorrelationId)).TransitionTo(Cancelled));
    }

    public State Open { get; } = null!;

    public State Done { get; } = null!;

    public State Cancelled { get; } = null!;

    public Event<OrderPlaced> Placed { get; } = null!;

    public Event<OrderPaid> Paid { get; } = null!;

    public Schedule<OrderState, OrderTimedOut> Timeout { get; } = null!;
}
