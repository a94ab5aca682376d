namespace OutboxBus.Diagnostics;

/// <summary>The named points at which tests can make things go wrong.</summary>
public enum FaultPoint
{
    /// <summary>The messages are stored and their transaction is about to commit; or the one command is about to run that does both.</summary>
    BeforeCommit,

    /// <summary>The transaction has committed; nothing has been handed to delivery.</summary>
    AfterCommit,

    /// <summary>Rows are claimed; none has been sent.</summary>
    AfterClaim,

    /// <summary>An envelope is about to be handed to the transport. An exception here counts as a failure of the transport.</summary>
    BeforeSend,

    /// <summary>The broker has confirmed an envelope; its row still exists.</summary>
    AfterSend,

    /// <summary>A handler's transaction has committed; the broker has not been told.</summary>
    AfterConsume,
}

/// <summary>
/// Lets tests interfere at named points: kill the process, throw, wait. Register an instance as a singleton to use it;
/// without one the points cost nothing.
/// </summary>
/// <param name="onReached">Called at each point, with the envelope where there is one.</param>
public sealed class FaultPoints(Func<FaultPoint, Envelope?, ValueTask>? onReached = null)
{
    internal static readonly FaultPoints None = new();

    internal ValueTask ReachAsync(FaultPoint point, Envelope? envelope) => onReached is null ? ValueTask.CompletedTask : onReached(point, envelope);

    internal void Reach(FaultPoint point)
    {
        // Only on synchronous SaveChanges; the callbacks of tests may wait there.
        if (onReached is not null)
            onReached(point, null).AsTask().GetAwaiter().GetResult();
    }
}
