using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;

namespace OutboxBus.MassTransit.Sagas;

/// <summary>What a context's model says of a saga.</summary>
internal static class SagaMapping
{
    /// <exception cref="OutboxBusException">The saga is no entity of the context.</exception>
    public static IEntityType EntityOf<TSaga>(DbContext context)
        where TSaga : class, ISaga
    {
        var entity = context.Model.FindEntityType(typeof(TSaga));
        return entity?.FindPrimaryKey()?.Properties is [{ Name: nameof(ISaga.CorrelationId) }]
            ? entity
            : throw new OutboxBusException(
                $"The saga {typeof(TSaga)} is not in the model of {context.GetType().Name} with {nameof(ISaga.CorrelationId)} as its key. "
                + $"Remedy: call modelBuilder.AddSaga<{typeof(TSaga).Name}>() in OnModelCreating and add a migration, or choose another repository for this saga.");
    }

    /// <exception cref="OutboxBusException">The saga is no entity of the context, or has no token for the concurrency chosen.</exception>
    public static SagaConcurrency ConcurrencyOf<TSaga>(DbContext context, SagaRepositoryOptions<TSaga> options)
        where TSaga : class, ISaga
    {
        var tokens = EntityOf<TSaga>(context).GetProperties().Where(property => property.IsConcurrencyToken).ToList();
        if (options.Concurrency == SagaConcurrency.Optimistic && tokens.Count == 0)
        {
            throw new OutboxBusException(
                $"The saga {typeof(TSaga)} is to be kept optimistically, but has no concurrency token in {context.GetType().Name}: of two messages at once, one would undo what the other did. "
                + "Remedy: map a row version (IsRowVersion; a uint property on PostgreSQL), or choose SagaConcurrency.Pessimistic.");
        }

        // A token that the database does not change with every update protects only as far as the application changes it.
        var hasVersion = tokens.Exists(token => token.ValueGenerated == ValueGenerated.OnAddOrUpdate);
        return options.Concurrency ?? (hasVersion ? SagaConcurrency.Optimistic : SagaConcurrency.Pessimistic);
    }

    /// <summary>Whether loading an entity reads other tables as well.</summary>
    public static bool IsJoined(IEntityType entity)
        => entity.GetSkipNavigations().Any(navigation => navigation.IsEagerLoaded)
            || entity.GetNavigations().Any(navigation => navigation.IsEagerLoaded && (
                navigation.TargetEntityType.GetTableName() != entity.GetTableName() || (navigation.TargetEntityType.IsOwned() && IsJoined(navigation.TargetEntityType))));
}
