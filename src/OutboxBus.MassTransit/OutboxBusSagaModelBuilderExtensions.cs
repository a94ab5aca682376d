using MassTransit;
using Microsoft.EntityFrameworkCore.Metadata.Builders;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Sagas in an application's model.</summary>
public static class OutboxBusSagaModelBuilderExtensions
{
    /// <summary>
    /// Maps a saga with its <c>CorrelationId</c> as the key, which the saga gives and the database does not. The rest is
    /// up to EF Core's conventions and to what follows; a row version makes its concurrency optimistic.
    /// </summary>
    public static EntityTypeBuilder<TSaga> AddSaga<TSaga>(this ModelBuilder modelBuilder)
        where TSaga : class, ISaga
    {
        ArgumentNullException.ThrowIfNull(modelBuilder);
        var entity = modelBuilder.Entity<TSaga>();
        entity.HasKey(saga => saga.CorrelationId);
        entity.Property(saga => saga.CorrelationId).ValueGeneratedNever();
        return entity;
    }
}
