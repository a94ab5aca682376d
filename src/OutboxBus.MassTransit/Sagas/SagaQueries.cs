using System.Linq.Expressions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Infrastructure;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Storage;
using OutboxBus.EntityFrameworkCore.Storage;

namespace OutboxBus.MassTransit.Sagas;

/// <summary>Loads the instances of one saga from a context, locked if that is how they are kept apart.</summary>
internal sealed class SagaQueries<TSaga>
    where TSaga : class, ISaga
{
    private const string Annotation = "OutboxBus:LockingQuery";

    private readonly DbContext _context;
    private readonly SagaRepositoryOptions<TSaga> _options;
    private readonly string? _lockingQuery;
    private readonly bool _isJoined;

    /// <exception cref="OutboxBusException">The saga is no entity of the context.</exception>
    public SagaQueries(DbContext context, SagaRepositoryOptions<TSaga> options)
    {
        _context = context;
        _options = options;
        var concurrency = SagaMapping.ConcurrencyOf(context, options);
        _lockingQuery = concurrency == SagaConcurrency.Pessimistic ? LockingQuery(context) : null;
        _isJoined = options.Query is not null || SagaMapping.IsJoined(SagaMapping.EntityOf<TSaga>(context));
        VersionIsOfAll = concurrency == SagaConcurrency.Optimistic && _isJoined;
    }

    /// <summary>Whether the version of an instance's row stands for rows of other tables as well.</summary>
    public bool VersionIsOfAll { get; }

    /// <summary>One instance, to be changed.</summary>
    public Task<TSaga?> LoadAsync(Guid correlationId, CancellationToken cancellationToken) => LoadAsync(correlationId, null, cancellationToken);

    /// <summary>Instances by any condition, to be changed.</summary>
    public async Task<IReadOnlyList<TSaga>> FindAsync(Expression<Func<TSaga, bool>> condition, CancellationToken cancellationToken)
    {
        if (_lockingQuery is null)
            return await Included(_context.Set<TSaga>()).Where(condition).ToListAsync(cancellationToken).ConfigureAwait(false);

        var found = new List<TSaga>();
        // In one order, so that two messages for the same instances wait for each other only once. Asked again under the lock: what was found may not fit any more.
        foreach (var id in await FindIdsAsync(condition, cancellationToken).ConfigureAwait(false))
        {
            if (await LoadAsync(id, condition, cancellationToken).ConfigureAwait(false) is { } saga)
                found.Add(saga);
        }

        return found;
    }

    /// <summary>The ids of instances, for those who only look.</summary>
    public Task<List<Guid>> FindIdsAsync(Expression<Func<TSaga, bool>> condition, CancellationToken cancellationToken)
        => _context.Set<TSaga>().Where(condition).Select(saga => saga.CorrelationId).Order().ToListAsync(cancellationToken);

    /// <summary>One instance, for those who only look.</summary>
    public Task<TSaga?> ReadAsync(Guid correlationId, CancellationToken cancellationToken)
        => Included(_context.Set<TSaga>()).AsNoTracking().SingleOrDefaultAsync(saga => saga.CorrelationId == correlationId, cancellationToken);

    private async Task<TSaga?> LoadAsync(Guid correlationId, Expression<Func<TSaga, bool>>? condition, CancellationToken cancellationToken)
    {
        var query = _context.Set<TSaga>().Where(saga => saga.CorrelationId == correlationId);
        if (_lockingQuery is not null)
        {
            var locked = _context.Set<TSaga>().FromSqlRaw(_lockingQuery, correlationId);
            if (_isJoined)
                // In a statement of its own: one that waits for the row sees it as it has become, but what it joins as that was before.
                await locked.Select(saga => saga.CorrelationId).ToListAsync(cancellationToken).ConfigureAwait(false);
            else
                query = locked;
        }

        query = Included(query);
        return await (condition is null ? query : query.Where(condition)).SingleOrDefaultAsync(cancellationToken).ConfigureAwait(false);
    }

    // Whatever the context's default is.
    private IQueryable<TSaga> Included(IQueryable<TSaga> query) => (_options.Query is null ? query : _options.Query(query)).AsTracking();

    /// <summary>Made once for each model: tenants may have tables of their own.</summary>
    private static string? LockingQuery(DbContext context) => SagaMapping.EntityOf<TSaga>(context).GetOrAddRuntimeAnnotationValue(Annotation, static context =>
    {
        var entity = SagaMapping.EntityOf<TSaga>(context!);
        var table = StoreObjectIdentifier.Create(entity, StoreObjectType.Table)
            ?? throw new OutboxBusException($"The saga {typeof(TSaga)} is mapped to no table in {context!.GetType().Name}, so its rows cannot be locked. Remedy: map it to a table, or choose optimistic concurrency.");
        var names = context!.GetService<ISqlGenerationHelper>();
        var key = entity.FindProperty(nameof(ISaga.CorrelationId))!.GetColumnName(table)!;
        // Braces would be placeholders of EF Core.
        return EngineSchema.For(context!.Database.ProviderName).LockingQuery(Escaped(names.DelimitIdentifier(table.Name, table.Schema)), Escaped(names.DelimitIdentifier(key)));
    }, context);

    private static string Escaped(string name) => name.Replace("{", "{{", StringComparison.Ordinal).Replace("}", "}}", StringComparison.Ordinal);
}
