using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;

namespace OutboxBus.EntityFrameworkCore.Publishing;

/// <summary>
/// While it runs, a retrying execution strategy of the application stays out: a retry inside the transaction could never
/// succeed, and the message's own retry starts from a fresh scope.
/// </summary>
internal sealed class SingleAttemptStrategy(DbContext context) : ExecutionStrategy(context, maxRetryCount: 0, maxRetryDelay: TimeSpan.Zero)
{
    public Task RunAsync(Func<Task> operation) => ExecuteAsync(
        operation,
        static async (_, run, _) =>
        {
            await run().ConfigureAwait(false);
            return true;
        },
        null,
        CancellationToken.None);

    protected override bool ShouldRetryOn(Exception exception) => false;
}
