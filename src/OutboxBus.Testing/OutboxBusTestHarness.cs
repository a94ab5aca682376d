using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Testing.Watching;

namespace OutboxBus.Testing;

/// <summary>
/// Shows a test what an application's messages do, and decides when time passes and what goes wrong. The application runs
/// as it is: what a list shows has really happened.
/// </summary>
public sealed class OutboxBusTestHarness
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    // Between a send and its receive there are a few turns of the thread pool, and nothing that could be waited for.
    private const int Turns = 10;

    private readonly IServiceProvider _provider;
    private readonly Type _context;
    private readonly HarnessWatch _watch;
    private readonly TimeSpan _limit;

    internal OutboxBusTestHarness(IServiceProvider provider, Type context, HarnessWatch watch, HarnessFaults faults, OutboxBusTestHarnessOptions options)
    {
        _provider = provider;
        _context = context;
        _watch = watch;
        _limit = options.TimeLimit;
        Faults = faults;
        Captured = new("captured", () => watch.CapturedMessages.All, entry => entry.Message, () => watch.CapturedMessages.More, _limit);
        Committed = new("committed", ReadCommitted, entry => entry.Message, null, _limit);
        Delivered = new("delivered", () => watch.DeliveredMessages.All, entry => entry.Message, () => watch.DeliveredMessages.More, _limit);
        Consumed = new("consumed", () => [.. watch.ConsumedMessages.All.Where(entry => entry is { IsDuplicate: false, Exception: null })], entry => entry.Message, () => watch.ConsumedMessages.More, _limit);
        Consumptions = new("at a consumer", () => watch.ConsumedMessages.All, entry => entry.Message, () => watch.ConsumedMessages.More, _limit);
        Unsaved = new("left unsaved", () => watch.UnsavedMessages.All, entry => entry.Message, () => watch.UnsavedMessages.More, _limit);
    }

    /// <summary>What was published or sent into a unit of work, whether that was committed or not.</summary>
    public MessageList<HarnessMessage> Captured { get; }

    /// <summary>What is in the committed outbox now, is a dead letter, or was delivered; reads the database.</summary>
    public MessageList<HarnessMessage> Committed { get; }

    /// <summary>What the broker has confirmed.</summary>
    public MessageList<HarnessMessage> Delivered { get; }

    /// <summary>What consumers have consumed in a transaction that was committed; once for each consumer.</summary>
    public MessageList<ConsumedMessage> Consumed { get; }

    /// <summary>Every attempt to consume, failed ones and duplicates too.</summary>
    public MessageList<ConsumedMessage> Consumptions { get; }

    /// <summary>What was captured in scopes that have ended without saving it: lost.</summary>
    public MessageList<HarnessMessage> Unsaved { get; }

    /// <summary>The types of messages that code with a unit of work has published through <c>IBus</c>, past the outbox.</summary>
    public IReadOnlyList<string> Bypassed => _watch.BypassedTypes.All;

    /// <summary>What goes wrong.</summary>
    public HarnessFaults Faults { get; }

    /// <exception cref="OutboxBusException">A message was published past the outbox by code that has a unit of work.</exception>
    public void ThrowIfBypassed()
    {
        if (Bypassed is { Count: > 0 } bypassed)
        {
            throw new OutboxBusException(
                $"{bypassed.Count} message(s) were published past the outbox, of type {string.Join(", ", bypassed.Distinct())}: they leave even if the transaction rolls back. "
                + "Remedy: publish through IOutboxContext, IPublishEndpoint, ISendEndpointProvider or the consume context instead of IBus.");
        }
    }

    /// <summary>
    /// Returns when every committed message is delivered and consumed, and so is what its consumers have published. What is
    /// not due, waits after a refusal, or was lost on its way to delivery waits on: see <see cref="AdvanceAsync"/>.
    /// </summary>
    /// <exception cref="OutboxBusException">That took longer than the time limit; the message says what is left.</exception>
    public async Task DrainAsync()
    {
        using var limit = new CancellationTokenSource(_limit);
        while (!await IsIdleAsync().ConfigureAwait(false))
        {
            if (limit.IsCancellationRequested)
                throw new OutboxBusException(await DescribeAsync().ConfigureAwait(false));
            await Task.Delay(Pause, TimeProvider.System).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Lets time pass for the messages in the database: those that become due within it, by a delay, a schedule, a back-off or
    /// the end of a lease, are delivered in the order of their times, each time until everything is consumed; those whose
    /// <c>TimeToLive</c> ends first become dead letters. Clocks stay: the rows are moved back. Retries that MassTransit waits
    /// for in memory take their real time.
    /// </summary>
    /// <param name="time">How much; not negative.</param>
    /// <exception cref="OutboxBusException">Something was not delivered and consumed within the time limit.</exception>
    public async Task AdvanceAsync(TimeSpan time)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(time, TimeSpan.Zero);
        await DrainAsync().ConfigureAwait(false);
        while (true)
        {
            var now = TimeProvider.System.GetUtcNow().UtcDateTime;
            var next = await WithContextAsync(db => db.Set<Envelope>().Where(row => row.VisibleAt > now).OrderBy(row => row.VisibleAt).Select(row => (DateTime?)row.VisibleAt).FirstOrDefaultAsync()).ConfigureAwait(false);
            if (next is null || next - now > time)
                break;
            time -= await MoveAsync(next.Value - now).ConfigureAwait(false);
            await ClaimedAsync().ConfigureAwait(false);
            await DrainAsync().ConfigureAwait(false);
        }

        await MoveAsync(time).ConfigureAwait(false);
    }

    /// <summary>Moves the times of all rows back; returns by how much.</summary>
    private async Task<TimeSpan> MoveAsync(TimeSpan time)
    {
        await WithContextAsync(async db =>
        {
            foreach (var row in await db.Set<Envelope>().AsNoTracking().ToListAsync().ConfigureAwait(false))
            {
                // Fenced like a reschedule: a row that delivery has just taken is left alone.
                await db.Set<Envelope>().Where(stored => stored.Id == row.Id && stored.VisibleAt == row.VisibleAt).ExecuteUpdateAsync(stored => stored
                    .SetProperty(moved => moved.VisibleAt, row.VisibleAt - time)
                    .SetProperty(moved => moved.DueAt, row.DueAt - time)
                    .SetProperty(moved => moved.ExpiresAt, row.ExpiresAt - time)).ConfigureAwait(false);
            }

            return 0;
        }).ConfigureAwait(false);
        return time;
    }

    /// <summary>Waits until delivery has taken what is due.</summary>
    private async Task ClaimedAsync()
    {
        using var limit = new CancellationTokenSource(_limit);
        while (!limit.IsCancellationRequested)
        {
            var now = TimeProvider.System.GetUtcNow().UtcDateTime;
            if (Faults.BrokerIsDown || !await WithContextAsync(db => db.Set<Envelope>().AnyAsync(row => row.VisibleAt <= now)).ConfigureAwait(false))
                return;
            await Task.Delay(Pause, TimeProvider.System).ConfigureAwait(false);
        }
    }

    private async Task<bool> IsIdleAsync()
    {
        var (received, delivered) = (_watch.Receiving.Ever, _watch.DeliveredMessages.All.Count);
        if (_watch.Receiving.Now > 0 || (await PendingAsync().ConfigureAwait(false)).Count > 0)
            return false;
        for (var turn = 0; turn < Turns; turn++)
            await Task.Run(() => { }).ConfigureAwait(false);
        await Task.Delay(Pause, TimeProvider.System).ConfigureAwait(false);
        return _watch.Receiving.Now == 0 && (_watch.Receiving.Ever, _watch.DeliveredMessages.All.Count) == (received, delivered)
            && (await PendingAsync().ConfigureAwait(false)).Count == 0;
    }

    /// <summary>What delivery is at work on, or about to be.</summary>
    private Task<List<Envelope>> PendingAsync()
    {
        var now = TimeProvider.System.GetUtcNow().UtcDateTime;
        return WithContextAsync(async db => (await db.Set<Envelope>().AsNoTracking().ToListAsync().ConfigureAwait(false)).FindAll(row => row.VisibleAt <= now || IsInHand(row, now)));
    }

    /// <summary>A row that its process is about to send, or has sent: leased, and not delayed, refused or lost on the way.</summary>
    private bool IsInHand(Envelope row, DateTime now)
        => row.ClaimCount > 0 || (!(row.DueAt > now) && row.Attempts == 0 && !_watch.IsLost(row.MessageId));

    private List<HarnessMessage> ReadCommitted()
    {
        using var scope = _provider.CreateScope();
        var db = (DbContext)scope.ServiceProvider.GetRequiredService(_context);
        // In the order in which a message passes them, or one on its way would be seen nowhere.
        var committed = db.Set<Envelope>().Select(row => row.MessageId).ToHashSet();
        committed.UnionWith(db.Set<DeadLetter>().Select(row => row.MessageId));
        committed.UnionWith(_watch.DeliveredMessages.All.Select(message => message.MessageId));
        return [.. _watch.CapturedMessages.All.Where(message => committed.Contains(message.MessageId))];
    }

    private async Task<string> DescribeAsync()
    {
        var pending = await PendingAsync().ConfigureAwait(false);
        var rows = pending.Take(5).Select(row => $"{row.MessageType} {row.MessageId}");
        return $"Not everything was delivered and consumed within {_limit}: {pending.Count} message(s) wait to be delivered{(pending.Count == 0 ? "" : $" ({string.Join(", ", rows)})")}, "
            + $"{_watch.Receiving.Now} are being consumed.{(Faults.BrokerIsDown ? " Faults.BrokerIsDown is set." : "")} Remedy: look at the application's log, or raise the harness's TimeLimit.";
    }

    private async Task<T> WithContextAsync<T>(Func<DbContext, Task<T>> read)
    {
        var scope = _provider.CreateAsyncScope();
        await using var disposal = scope.ConfigureAwait(false);
        return await read((DbContext)scope.ServiceProvider.GetRequiredService(_context)).ConfigureAwait(false);
    }
}
