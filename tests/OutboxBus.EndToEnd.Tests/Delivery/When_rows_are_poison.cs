using System.Collections.Concurrent;
using System.Diagnostics;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_rows_are_poison
{
    private const string Queue = "spy";
    private const int Messages = 10_000;

    // PostgreSQL's statistics are up to a second late, which is some ten polls.
    private const int FlushedLate = 20;
    private const int Polls = 100;
    private static readonly TimeSpan LeastPause = TimeSpan.FromMilliseconds(80);

    [SkippableFact]
    public async Task Among_thousands_two_become_dead_letters_the_rest_is_delivered_and_then_there_are_polls_only()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        // Nobody is bound to the second type, and it must have a route: the broker returns it each time.
        await StoreAsync(stack, new OrderPlaced(Guid.NewGuid()), new StockReserved(Guid.NewGuid()), new OrderPlaced(Guid.NewGuid()));
        await stack.ExecuteAsync($"""
            insert into outbox_message (bus, visible_at, message_id, message_type, content_type, headers, properties, body)
            select bus, visible_at, gen_random_uuid(), message_type, content_type, headers, properties, body
            from outbox_message, generate_series(1, {Messages - 3}) where id = (select min(id) from outbox_message);
            update outbox_message set headers = 'truncated' where id = (select min(id) from outbox_message)
            """);
        await using var app = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.MaxAttempts = 3));

        await stack.DrainedAsync();
        (await broker.CountAsync(Queue)).Should().Be(Messages - 2);
        (await stack.ReadAsync(db => db.DeadLetters.OrderBy(letter => letter.OutboxId).Select(letter => letter.Reason).ToListAsync()))
            .Should().Equal(nameof(DeadLetterReason.Corrupt), nameof(DeadLetterReason.Refused));

        await using var db = stack.Open();
        await Eventually.BecomesAsync(async () => await ChangesWhilePollingAsync(db) == 0, "nothing is claimed, rescheduled or deleted any more");
        using var statements = new Statements(db.Database.GetDbConnection().Database);
        var (before, started) = (await ActivityAsync(db), Stopwatch.GetTimestamp());
        var after = await Eventually.BecomesAsync(() => ActivityAsync(db), activity => activity.Scans >= before.Scans + Polls, "some polls have passed");
        Stopwatch.GetElapsedTime(started).Should().BeGreaterThan((after.Scans - before.Scans - FlushedLate) * LeastPause, "a loop that spins would ask without a pause");
        statements.Others.Should().BeEmpty();
        statements.Claims.Should().BePositive();
    }

    [SkippableFact]
    public async Task A_message_that_breaks_its_channel_is_found_out_while_others_get_through()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        // A send to this exchange declares it as another type: 406 PRECONDITION_FAILED, which closes the channel.
        await broker.DeclareDirectAsync("refuses");
        await StoreAsync(stack, [.. Enumerable.Range(0, 100).Select(_ => new OrderPlaced(Guid.NewGuid()))]);
        await stack.ExecuteAsync("update outbox_message set destination = 'exchange:refuses' where id = (select min(id) from outbox_message)");
        await using var app = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.MaxAttempts = 3));

        // Only that others get through proves that the broker is up and the message to blame.
        await Eventually.BecomesAsync(
            async () =>
            {
                await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
                return await stack.ReadAsync(db => db.DeadLetters.CountAsync()) == 1;
            },
            "the message is given up");
        await stack.DrainedAsync();
        (await broker.CountAsync(Queue)).Should().BeGreaterThanOrEqualTo(100, "99 were stored before, and at least one after");
        (await stack.ReadAsync(db => db.DeadLetters.SingleAsync())).Reason.Should().Be(nameof(DeadLetterReason.Refused));
    }

    private static async Task StoreAsync(Stack stack, params object[] messages)
    {
        await using var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false));
        await publisher.InScopeAsync(async (services, db) =>
        {
            var outbox = services.GetRequiredService<IOutboxContext>();
            foreach (var message in messages)
                await outbox.Publish(message, message.GetType(), new PublishOptions { RequireRoute = message is StockReserved });
            await db.SaveChangesAsync();
        });
    }

    private static async Task<long> ChangesWhilePollingAsync(ShopDb db)
    {
        var before = await ActivityAsync(db);
        var after = await Eventually.BecomesAsync(() => ActivityAsync(db), activity => activity.Scans >= before.Scans + Polls, "some polls have passed");
        return after.Changed - before.Changed;
    }

    private static async Task<Activity> ActivityAsync(ShopDb db)
        => await db.Database.SqlQuery<Activity>($"""
            select (n_tup_ins + n_tup_upd + n_tup_del)::bigint as "Changed", (seq_scan + idx_scan)::bigint as "Scans"
            from pg_stat_user_tables where relname = 'outbox_message'
            """).SingleAsync();

    private sealed record Activity(long Changed, long Scans);

    /// <summary>What this process asks one database, by the driver's own account, but for what the test itself asks.</summary>
    private sealed class Statements : IDisposable
    {
        private readonly ConcurrentQueue<string> _texts = new();
        private readonly ActivityListener _listener = new();

        public Statements(string database)
        {
            _listener.ShouldListenTo = source => source.Name == "Npgsql";
            _listener.Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded;
            _listener.ActivityStopped = activity =>
            {
                if (activity.GetTagItem("db.query.text") is string text && activity.TagObjects.Any(tag => Equals(tag.Value, database)) && !text.Contains("pg_stat_user_tables", StringComparison.Ordinal))
                    _texts.Enqueue(text);
            };
            ActivitySource.AddActivityListener(_listener);
        }

        public int Claims => _texts.Count(IsClaim);

        public IEnumerable<string> Others => _texts.Where(text => !IsClaim(text));

        public void Dispose() => _listener.Dispose();

        private static bool IsClaim(string text) => text.Contains("for update skip locked", StringComparison.Ordinal) && text.Contains("claim_count + 1", StringComparison.Ordinal);
    }
}
