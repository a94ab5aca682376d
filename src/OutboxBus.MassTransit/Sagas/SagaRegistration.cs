using MassTransit;
using MassTransit.Configuration;
using MassTransit.Saga;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;

namespace OutboxBus.MassTransit.Sagas;

/// <summary>Makes a DbContext the repository of a saga.</summary>
internal static class SagaRegistration
{
    /// <param name="saga">The saga's registration.</param>
    /// <param name="options">Null: those registered already, or the defaults.</param>
    public static void Add<TSaga, TDbContext>(ISagaRegistrationConfigurator<TSaga> saga, SagaRepositoryOptions<TSaga>? options)
        where TSaga : class, ISaga
        where TDbContext : DbContext => saga.Repository(repository =>
        {
            if (options is not null)
                repository.Replace(ServiceDescriptor.Singleton(options));
            repository.TryAddSingleton<SagaRepositoryOptions<TSaga>>();
            repository.RegisterSagaRepository<TSaga, TDbContext, SagaConsumeContextFactory<TDbContext, TSaga>, DbContextSagaRepository<TSaga, TDbContext>>();
            repository.RegisterLoadSagaRepository<TSaga, DbContextSagaRepository<TSaga, TDbContext>>();
            repository.RegisterQuerySagaRepository<TSaga, DbContextSagaRepository<TSaga, TDbContext>>();
            repository.AddSingleton<IHostedService, SagaCheck<TSaga, TDbContext>>();
        });
}

/// <summary>The repository of every saga that has chosen no other.</summary>
internal sealed class DbContextSagaRepositoryProvider<TDbContext> : ISagaRepositoryRegistrationProvider
    where TDbContext : DbContext
{
    public void Configure<TSaga>(ISagaRegistrationConfigurator<TSaga> configurator)
        where TSaga : class, ISaga => SagaRegistration.Add<TSaga, TDbContext>(configurator, null);
}

/// <summary>Says at start, and not with the first message, that a saga cannot be stored.</summary>
internal sealed class SagaCheck<TSaga, TDbContext>(IServiceScopeFactory scopes, SagaRepositoryOptions<TSaga> options) : IHostedLifecycleService
    where TSaga : class, ISaga
    where TDbContext : DbContext
{
    public async Task StartingAsync(CancellationToken cancellationToken)
    {
        var scope = scopes.CreateAsyncScope();
        await using var disposal = scope.ConfigureAwait(false);
        SagaMapping.ConcurrencyOf(scope.ServiceProvider.GetRequiredService<TDbContext>(), options);
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
