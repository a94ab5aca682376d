using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>Lets a scope publish into other contexts than its own.</summary>
internal interface IDbContextEnlisting
{
    /// <summary>Until the result is disposed, what the scope publishes goes into the unit of work of this context.</summary>
    IDisposable Enlist(DbContext context);
}

/// <summary>
/// The scope's unit of work is that of its DbContext, or of the context enlisted last. The scope's own context is resolved
/// only when something is captured, so that a context may itself depend on a publisher.
/// </summary>
internal sealed class DbContextUnitOfWorkSource<TDbContext>(IServiceProvider services, UnitOfWorkRegistry registry, OutboxInterceptor interceptor)
    : IUnitOfWorkSource, IDbContextEnlisting, IDisposable
    where TDbContext : DbContext
{
    private readonly Lock _lock = new();
    private readonly List<Enlistment> _enlistments = [];

    // Units of work that still have messages, or whose transaction others will end.
    private readonly List<DbContextUnitOfWork> _unfinished = [];
    private readonly AsyncLocal<Enlistment?> _ofFlow = new();
    private DbContextUnitOfWork? _ofScope;

    public IUnitOfWork Current
    {
        get
        {
            // Parallel publishes of one scope must find the same one.
            lock (_lock)
                return LastEnlistment()?.Unit ?? (_ofScope ??= registry.For(services.GetRequiredService<TDbContext>()));
        }
    }

    public IReadOnlyCollection<Envelope> Unsaved
    {
        get
        {
            lock (_lock)
                return [.. Units().SelectMany(unit => unit.Unsaved)];
        }
    }

    public IReadOnlyCollection<Guid> UnsavedCancellations
    {
        get
        {
            lock (_lock)
                return [.. Units().SelectMany(unit => unit.UnsavedCancellations)];
        }
    }

    public IDisposable Enlist(DbContext context)
    {
        Check(context);
        lock (_lock)
        {
            var enlistment = new Enlistment(this, registry.For(context), OfFlow());
            _enlistments.Add(enlistment);
            return _ofFlow.Value = enlistment;
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            foreach (var unit in Units())
                unit.ScopeEnds();
        }
    }

    private void Check(DbContext context)
    {
        var name = context.GetType().Name;
        if (context is not TDbContext)
        {
            throw new OutboxBusException(
                $"{name} cannot be enlisted: messages are delivered from the database of {typeof(TDbContext).Name} only, so those stored through {name} would never leave. "
                + $"Remedy: enlist a {typeof(TDbContext).Name}; to save a {name} in the same transaction, let both use one connection and Database.UseTransaction.");
        }

        if (context.Model.FindEntityType(typeof(Envelope)) is null)
        {
            throw new OutboxBusException(
                $"{name} cannot be enlisted: its model has no outbox tables. Remedy: call modelBuilder.AddOutboxBus(Database) in OnModelCreating, and base.OnModelCreating where it is overridden.");
        }

        if (!ReferenceEquals(OutboxInterceptor.Of(context), interceptor))
        {
            throw new OutboxBusException(
                $"{name} cannot be enlisted: it runs without the interceptor of OutboxBus, so its SaveChanges would not save messages. "
                + $"Remedy: create it with IDbContextFactory<{typeof(TDbContext).Name}>, or with the DbContextOptions<{typeof(TDbContext).Name}> of the container.");
        }
    }

    private IEnumerable<DbContextUnitOfWork> Units()
    {
        var units = _enlistments.Select(enlistment => enlistment.Unit).Concat(_unfinished);
        return (_ofScope is null ? units : units.Append(_ofScope)).Distinct();
    }

    /// <summary>The innermost enlistment of the calling flow, if it is still on.</summary>
    private Enlistment? OfFlow()
    {
        var enlistment = _ofFlow.Value;
        while (enlistment is not null && !_enlistments.Contains(enlistment))
            enlistment = enlistment.Outer;
        return enlistment;
    }

    /// <summary>
    /// The scope's last enlistment. But flows of one scope may interleave, as the components of a Blazor circuit do: a flow
    /// that has enlisted a context sees that one and those enlisted inside, and none of its neighbours'.
    /// </summary>
    private Enlistment? LastEnlistment()
    {
        var ofFlow = OfFlow();
        return _enlistments.FindLast(enlistment => ofFlow is null || enlistment.IsWithin(ofFlow));
    }

    private void End(Enlistment enlistment)
    {
        lock (_lock)
        {
            if (!_enlistments.Remove(enlistment))
                return;
            _ofFlow.Value = OfFlow();
            // A scope may live for hours and enlist a context for each click.
            var unit = enlistment.Leave();
            unit.EnlistmentEnds();
            _unfinished.Add(unit);
            _unfinished.RemoveAll(left => !left.IsUnfinished);
        }
    }

    private sealed class Enlistment(DbContextUnitOfWorkSource<TDbContext> source, DbContextUnitOfWork unit, Enlistment? outer) : IDisposable
    {
        private DbContextUnitOfWork? _unit = unit;

        public DbContextUnitOfWork Unit => _unit!;

        public Enlistment? Outer => outer;

        public bool IsWithin(Enlistment other) => ReferenceEquals(this, other) || outer?.IsWithin(other) == true;

        /// <summary>Lets go of the context: the flow that ends here may have started something that lives on and remembers the enlistment.</summary>
        public DbContextUnitOfWork Leave()
        {
            var unit = Unit;
            _unit = null;
            return unit;
        }

        public void Dispose() => source.End(this);
    }
}
