using System.Runtime.CompilerServices;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.Logging;
using OutboxBus.Delivery;
using OutboxBus.Storage;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>Finds the unit of work of a DbContext instance; a pooled instance gets a new one for each use.</summary>
internal sealed class UnitOfWorkRegistry(IOutboxDatabase database, string bus, HandOff handOff, TimeProvider time, ILogger<DbContextUnitOfWork> logger)
{
    private readonly ConditionalWeakTable<DbContext, DbContextUnitOfWork> _units = [];

    public DbContextUnitOfWork For(DbContext context)
    {
        if (Find(context) is { } unit)
            return unit;
        // A publish and a save may both be the first: a message appended to a second unit would never be saved.
        lock (_units)
        {
            if (Find(context) is { } found)
                return found;
            unit = new DbContextUnitOfWork(context, new SaveAcceptance(context), database, bus, handOff, time, logger);
            _units.AddOrUpdate(context, unit);
            return unit;
        }
    }

    public DbContextUnitOfWork? Find(DbContext? context)
        => context is not null && _units.TryGetValue(context, out var unit) && unit.Lease == context.ContextId.Lease ? unit : null;
}
