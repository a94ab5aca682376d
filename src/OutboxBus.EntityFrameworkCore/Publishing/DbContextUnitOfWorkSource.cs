using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// The scope's unit of work is that of its DbContext. The context is resolved only when something is captured, so that
/// a context may itself depend on a publisher.
/// </summary>
internal sealed class DbContextUnitOfWorkSource<TDbContext>(IServiceProvider services, UnitOfWorkRegistry registry) : IUnitOfWorkSource
    where TDbContext : DbContext
{
    private readonly Lock _lock = new();
    private DbContextUnitOfWork? _current;

    public IUnitOfWork Current
    {
        get
        {
            // Parallel publishes of one scope must find the same one.
            lock (_lock)
                return _current ??= registry.For(services.GetRequiredService<TDbContext>());
        }
    }

    public IUnitOfWork? CurrentOrNone => _current;
}
