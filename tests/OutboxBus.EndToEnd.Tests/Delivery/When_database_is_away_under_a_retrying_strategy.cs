using System.Diagnostics;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_database_is_away_under_a_retrying_strategy
{
    [SkippableFact]
    public async Task Delivery_does_not_wait_for_the_retries_of_the_strategy()
    {
        await using var postgres = await Servers.PrivatePostgresAsync();
        var connection = await postgres.CreateDatabaseAsync("away");
        await using var stack = Stack.Of(connection, await Servers.RabbitMqVirtualHostAsync("away"));
        await using var app = await App.StartAsync(
            stack,
            services: services => services.ConfigureDbContext<ShopDb>(db => db.UseNpgsql(connection, npgsql => npgsql.EnableRetryOnFailure())));
        await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        await stack.DrainedAsync();

        await postgres.KillAsync();
        NpgsqlConnection.ClearAllPools();
        var started = Stopwatch.GetTimestamp();
        await app.Services.GetRequiredService<IOutboxDatabase>().Awaiting(database => database.OpenAsync(default)).Should().ThrowAsync<Exception>();
        var tried = Stopwatch.GetElapsedTime(started);
        await postgres.RestartAsync();
        tried.Should().BeLessThan(TimeSpan.FromSeconds(10));
    }
}
