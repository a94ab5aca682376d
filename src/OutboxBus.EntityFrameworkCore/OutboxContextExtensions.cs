using OutboxBus;
using OutboxBus.EntityFrameworkCore.Publishing;
using OutboxBus.Publishing;

namespace Microsoft.EntityFrameworkCore;

/// <summary>Lets a scope publish into a DbContext other than its own.</summary>
public static class OutboxContextExtensions
{
    /// <summary>
    /// From now on, what the service scope publishes and sends, through <see cref="IOutboxContext"/> and MassTransit's own
    /// endpoints alike, rides the <c>SaveChanges</c> of this context instead of the scoped one's. For contexts from an
    /// <c>IDbContextFactory</c> and for several contexts in one scope. Enlistments nest.
    /// </summary>
    /// <param name="outbox">The scope's <see cref="IOutboxContext"/>.</param>
    /// <param name="context">
    /// A context of the type the outbox was registered with, made by the container: <c>IDbContextFactory</c>, a pool, or its options.
    /// Dispose the enlistment before the context.
    /// </param>
    /// <returns>Disposing it restores what was before. Messages published meanwhile stay with the context and its next <c>SaveChanges</c>.</returns>
    /// <remarks>
    /// Only the database of the registered context type is delivered from, so other types are refused. Flows of one scope that
    /// interleave, as in a Blazor circuit, may each enlist a context of their own.
    /// </remarks>
    /// <exception cref="ArgumentNullException">An argument is null.</exception>
    /// <exception cref="OutboxBusException">
    /// The context is of another type, has no outbox tables or runs without the interceptor of OutboxBus; a message is being
    /// handled, whose own transaction takes all its messages; or <paramref name="outbox"/> is not of OutboxBus.
    /// </exception>
    public static IDisposable Enlist(this IOutboxContext outbox, DbContext context)
    {
        ArgumentNullException.ThrowIfNull(outbox);
        ArgumentNullException.ThrowIfNull(context);
        if (outbox is not IUnitOfWorkAccess access)
        {
            throw new OutboxBusException(
                $"No DbContext can be enlisted in {outbox.GetType()}, which is not the IOutboxContext of OutboxBus. Remedy: take the one of the service container.");
        }

        if (access.Source is not { } source)
        {
            throw new OutboxBusException(
                $"{context.GetType().Name} cannot be enlisted while a message is handled: what a handler publishes belongs to its message's transaction, or its effects would not happen once. "
                + "Remedy: use the handler's scoped DbContext, or a service scope of your own for work that is to commit by itself.");
        }

        return ((IDbContextEnlisting)source).Enlist(context);
    }
}
