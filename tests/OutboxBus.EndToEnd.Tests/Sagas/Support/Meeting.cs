using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using OutboxBus.TestServers;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

/// <summary>Lets the first two transactions that are about to write an instance wait for each other; later ones pass.</summary>
internal sealed class Meeting<TSaga>(EntityState state) : SaveChangesInterceptor
    where TSaga : class
{
    private readonly TaskCompletionSource _two = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _arrived;

    public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
    {
        if (eventData.Context!.ChangeTracker.Entries<TSaga>().Any(entry => entry.State == state))
        {
            if (Interlocked.Increment(ref _arrived) == 2)
                _two.SetResult();
            await Eventually.CompletesAsync(_two.Task);
        }

        return result;
    }
}
