using System.Reflection;
using Microsoft.EntityFrameworkCore;
using OutboxBus.MassTransit;
using OutboxBus.MassTransit.Sagas;

namespace MassTransit;

/// <summary>
/// Keeps sagas in a DbContext. Sagas that choose no repository are kept in the context given to <c>AddOutboxBus</c>, where
/// state, inbox record and messages are one transaction; without <c>AddOutboxBus</c> each message has a transaction of its own.
/// </summary>
public static class OutboxBusSagaExtensions
{
    private static readonly MethodInfo AddOpen = typeof(SagaRegistration).GetMethod(nameof(SagaRegistration.Add))!;

    /// <summary>Keeps the instances of a saga in a DbContext whose model calls <c>modelBuilder.AddSaga&lt;TSaga&gt;()</c>.</summary>
    /// <param name="saga">The saga's registration.</param>
    public static ISagaRegistrationConfigurator OutboxBusRepository<TDbContext>(this ISagaRegistrationConfigurator saga)
        where TDbContext : DbContext
    {
        ArgumentNullException.ThrowIfNull(saga);
        var type = saga.GetType().GetInterfaces()
            .First(type => type.IsGenericType && type.GetGenericTypeDefinition() == typeof(ISagaRegistrationConfigurator<>))
            .GetGenericArguments()[0];
        AddOpen.MakeGenericMethod(type, typeof(TDbContext)).Invoke(null, BindingFlags.DoNotWrapExceptions, null, [saga, null], null);
        return saga;
    }

    /// <summary>The same with more options.</summary>
    /// <param name="saga">The saga's registration.</param>
    /// <param name="configure">How instances are loaded and kept apart.</param>
    public static ISagaRegistrationConfigurator<TSaga> OutboxBusRepository<TSaga, TDbContext>(this ISagaRegistrationConfigurator<TSaga> saga, Action<SagaRepositoryOptions<TSaga>> configure)
        where TSaga : class, ISaga
        where TDbContext : DbContext
    {
        ArgumentNullException.ThrowIfNull(saga);
        ArgumentNullException.ThrowIfNull(configure);
        var options = new SagaRepositoryOptions<TSaga>();
        configure(options);
        SagaRegistration.Add<TSaga, TDbContext>(saga, options);
        return saga;
    }
}
