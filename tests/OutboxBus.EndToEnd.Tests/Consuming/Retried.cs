using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Consuming;

// Wherever a retry is configured, each attempt starts afresh and only the one that succeeds leaves anything.
public sealed class Retried
{
    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, "endpoint", 1)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, "consumer", 1)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, "definition", 1)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.First, "both", 2)]
    [InlineData(StackKind.PostgreSqlRabbitMq, InboxMode.Last, "both", 2)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First, "endpoint", 1)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First, "consumer", 1)]
    [InlineData(StackKind.SqliteInMemory, InboxMode.First, "both", 2)]
    public async Task Each_attempt_has_its_own_scope_context_and_transaction_and_only_the_last_leaves_anything(StackKind kind, InboxMode mode, string where, int failures)
    {
        await using var stack = await Stack.CreateAsync(kind, mode);
        await using var app = await StartAsync(stack, where, failures);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await AssertOnlyLastAttemptIsLeftAsync(stack, app, failures);
    }

    [SkippableFact]
    public async Task A_retrying_execution_strategy_does_not_repeat_a_consumer_within_its_transaction()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var app = await StartAsync(
            stack,
            "endpoint",
            failures: 1,
            new PostgresException("deadlock detected", "ERROR", "ERROR", PostgresErrorCodes.DeadlockDetected),
            services => services.ConfigureDbContext<ShopDb>(options => options.UseNpgsql(npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null))));

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await AssertOnlyLastAttemptIsLeftAsync(stack, app, failures: 1);
    }

    [SkippableTheory]
    [InlineData("endpoint", InboxMode.First)]
    [InlineData("endpoint", InboxMode.Last)]
    [InlineData("consumer", InboxMode.First)]
    public async Task Of_two_consumers_on_an_endpoint_one_is_retried_and_the_other_runs_once(string where, InboxMode mode)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync(mode);
        await using var app = await StartAsync(stack, where, failures: 1, withOther: true);

        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));

        await app.Probe.SeesAsync("leaf");
        await Eventually.BecomesAsync(stack.EffectsAsync, count => count == 2, "both have committed");
        await stack.DrainedAsync();
        (await stack.ReadAsync(db => db.Effects.Select(effect => effect.By).Order().ToListAsync())).Should().Equal("attempt 2", "first");
        app.Probe.Of("attempt").Should().HaveCount(2);
        app.Probe.Of("first").Should().ContainSingle("a retry configured on the endpoint too is one for each consumer");
        app.Probe.Of("leaf").Should().ContainSingle().Which.What.Should().Be("attempt 2");
    }

    private static Task<App> StartAsync(Stack stack, string where, int failures, Exception? error = null, Action<IServiceCollection>? services = null, bool withOther = false)
        => App.StartMassTransitAsync(
            stack,
            bus =>
            {
                var consumer = where == "definition"
                    ? bus.AddConsumer<AttemptConsumer, RetryingDefinition>()
                    : bus.AddConsumer<AttemptConsumer>(consumer =>
                    {
                        if (where == "endpoint")
                            return;
                        consumer.UseMessageRetry(retry =>
                        {
                            // MassTransit's outer retry leaves alone what an inner one has given up on; what the inner one ignores is the outer one's.
                            retry.Ignore<TimeoutException>();
                            retry.Immediate(1);
                        });
                    });
                consumer.Endpoint(endpoint => endpoint.Name = "shared");
                bus.AddConsumer<LeafConsumer>();
                if (withOther)
                    bus.AddConsumer<FirstConsumer>().Endpoint(endpoint => endpoint.Name = "shared");
                if (where is "endpoint" or "both")
                    bus.AddConfigureEndpointsCallback((_, _, endpoint) => endpoint.UseMessageRetry(retry => retry.Immediate(1)));
            },
            services: collection =>
            {
                collection.AddSingleton(new Failing(failures, error));
                collection.AddScoped<ScopeMark>();
                services?.Invoke(collection);
            });

    private static async Task AssertOnlyLastAttemptIsLeftAsync(Stack stack, App app, int failures)
    {
        await app.Probe.SeesAsync("leaf");
        await stack.DrainedAsync();
        var attempts = app.Probe.Of("attempt").Select(sighting => (Attempt)sighting.What!).ToList();
        attempts.Should().HaveCount(failures + 1);
        attempts.Select(attempt => attempt.Scope).Should().OnlyHaveUniqueItems();
        attempts.Select(attempt => attempt.Context).Should().OnlyHaveUniqueItems();
        attempts.Select(attempt => attempt.Transaction).Should().OnlyHaveUniqueItems();
        attempts.Should().OnlyContain(attempt => attempt.RowsSeen == 0 && attempt.RowsTracked == 0, "nothing of a failed attempt stays");
        var last = $"attempt {failures + 1}";
        (await stack.ReadAsync(db => db.Effects.Select(effect => effect.By).ToListAsync())).Should().Equal(last);
        app.Probe.Of("leaf").Should().ContainSingle().Which.What.Should().Be(last);
    }
}

public sealed record Failing(int Times, Exception? Error)
{
    public Exception At(int attempt) => Error ?? (attempt == 1 ? new InvalidOperationException("The first attempt fails.") : new TimeoutException("So does the second."));
}

public sealed class ScopeMark;

public sealed record Attempt(ScopeMark Scope, DbContextId Context, Guid Transaction, int RowsSeen, int RowsTracked);

public sealed class AttemptConsumer(ShopDb db, Probe probe, Failing failing, ScopeMark scope) : IConsumer<OrderPlaced>
{
    public async Task Consume(ConsumeContext<OrderPlaced> context)
    {
        probe.Saw("attempt", new Attempt(
            scope,
            db.ContextId,
            db.Database.CurrentTransaction!.TransactionId,
            await db.Effects.CountAsync(effect => effect.By != "first"),
            db.ChangeTracker.Entries().Count()));
        var number = probe.Of("attempt").Count;
        db.Add(new Effect { OrderId = context.Message.OrderId, By = $"attempt {number}" });
        await context.Publish(new Leaf($"attempt {number}"));
        await db.SaveChangesAsync();
        if (number <= failing.Times)
            throw failing.At(number);
    }
}

public sealed class RetryingDefinition : ConsumerDefinition<AttemptConsumer>
{
    protected override void ConfigureConsumer(IReceiveEndpointConfigurator endpointConfigurator, IConsumerConfigurator<AttemptConsumer> consumerConfigurator, IRegistrationContext context)
        => consumerConfigurator.UseMessageRetry(retry => retry.Immediate(1));
}

public sealed class FirstConsumer(ShopDb db, Probe probe) : IConsumer<OrderPlaced>
{
    public Task Consume(ConsumeContext<OrderPlaced> context)
    {
        probe.Saw("first");
        db.Add(new Effect { OrderId = context.Message.OrderId, By = "first" });
        return Task.CompletedTask;
    }
}
