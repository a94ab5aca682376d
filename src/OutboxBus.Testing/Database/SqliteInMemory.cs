using System.Reflection;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Migrations;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using OutboxBus.EntityFrameworkCore.Storage;
using OutboxBus.Sqlite;
using OutboxBus.Storage;

namespace OutboxBus.Testing.Database;

/// <summary>Takes the place of the application's database.</summary>
internal static class SqliteInMemory
{
    private static readonly MethodInfo ReplaceOpen = typeof(SqliteInMemory).GetMethod(nameof(ReplaceOf), BindingFlags.NonPublic | BindingFlags.Static)!;

    public static void Replace(IServiceCollection services, Type context) => ReplaceOpen.MakeGenericMethod(context).Invoke(null, BindingFlags.DoNotWrapExceptions, null, [services], null);

    private static void ReplaceOf<TDbContext>(IServiceCollection services)
        where TDbContext : DbContext
    {
        var originals = services.Where(service => service.ServiceType == typeof(IDbContextOptionsConfiguration<TDbContext>)).ToList();
        services.RemoveAll<IDbContextOptionsConfiguration<TDbContext>>();
        services.AddSingleton<MemoryDatabase>();
        services.Add(new ServiceDescriptor(
            typeof(IDbContextOptionsConfiguration<TDbContext>),
            provider => new ProviderReplacement<TDbContext>(originals),
            originals.Select(original => original.Lifetime).DefaultIfEmpty(ServiceLifetime.Singleton).Min()));
        services.Replace(ServiceDescriptor.Singleton<IOutboxDatabase>(provider
            => new DbContextDatabase<TDbContext>(provider.GetRequiredService<IServiceScopeFactory>(), tables => new SqliteDialect(tables))));
        // Before any service of the application starts.
        services.Insert(0, ServiceDescriptor.Singleton<IHostedService, TableCreation<TDbContext>>());
    }
}

/// <summary>A database that lives as long as the application's services.</summary>
internal sealed class MemoryDatabase : IDisposable
{
    // By SQLite's memdb file system, and not its shared cache, whose locks are of another kind than those of a file.
    private readonly string _connectionString = $"Data Source=file:/outboxbus-{Guid.NewGuid():N}?vfs=memdb";
    private readonly SqliteConnection _open;

    public MemoryDatabase()
    {
        _open = new SqliteConnection(_connectionString);
        _open.Open();
    }

    public string ConnectionString => _connectionString;

    public void Dispose()
    {
        // The connections that the application has closed are open still, in their pool, and would keep the database.
        SqliteConnection.ClearPool(_open);
        _open.Dispose();
    }
}

/// <summary>Runs the application's own configurations of its context, and takes from them all but the provider.</summary>
internal sealed class ProviderReplacement<TDbContext>(IReadOnlyList<ServiceDescriptor> originals) : IDbContextOptionsConfiguration<TDbContext>
    where TDbContext : DbContext
{
    public void Configure(IServiceProvider serviceProvider, DbContextOptionsBuilder optionsBuilder)
    {
        var builder = new DbContextOptionsBuilder<TDbContext>();
        foreach (var original in originals)
            Resolve(original, serviceProvider).Configure(serviceProvider, builder);
        foreach (var extension in builder.Options.Extensions.Where(extension => !extension.Info.IsDatabaseProvider))
            ((IDbContextOptionsBuilderInfrastructure)optionsBuilder).AddOrUpdateExtension(extension);
        optionsBuilder
            .UseSqlite(serviceProvider.GetRequiredService<MemoryDatabase>().ConnectionString)
            .ReplaceService<IModelCustomizer, SqliteModelCustomizer>()
            .ReplaceService<IMigrator, ModelMigrator>();
    }

    private static IDbContextOptionsConfiguration<TDbContext> Resolve(ServiceDescriptor descriptor, IServiceProvider provider) => (IDbContextOptionsConfiguration<TDbContext>)(
        descriptor.ImplementationInstance ?? descriptor.ImplementationFactory?.Invoke(provider) ?? ActivatorUtilities.CreateInstance(provider, descriptor.ImplementationType!));
}

/// <summary>Makes a model for a server work on SQLite: there is no version that the database itself keeps, and with one writer at a time none is needed.</summary>
internal sealed class SqliteModelCustomizer(ModelCustomizerDependencies dependencies) : RelationalModelCustomizer(dependencies)
{
    public override void Customize(ModelBuilder modelBuilder, DbContext context)
    {
        base.Customize(modelBuilder, context);
        var versions = modelBuilder.Model.GetEntityTypes().SelectMany(entity => entity.GetDeclaredProperties())
            .Where(property => property is { IsConcurrencyToken: true, ValueGenerated: ValueGenerated.OnAddOrUpdate });
        foreach (var version in versions)
            version.ValueGenerated = ValueGenerated.Never;
    }
}

/// <summary>Creates the tables of the application's model.</summary>
internal sealed class TableCreation<TDbContext>(IServiceScopeFactory scopes) : IHostedLifecycleService
    where TDbContext : DbContext
{
    public async Task StartingAsync(CancellationToken cancellationToken)
    {
        var scope = scopes.CreateAsyncScope();
        await using var disposal = scope.ConfigureAwait(false);
        await scope.ServiceProvider.GetRequiredService<TDbContext>().Database.EnsureCreatedAsync(cancellationToken).ConfigureAwait(false);
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
