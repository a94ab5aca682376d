using System.Diagnostics;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
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
    public async Task Among_thousands_two_become_dead_letters_the_rest_is_delivered_and_then_there_is_rest()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        // A send to this exchange declares it as another type: 406 PRECONDITION_FAILED, which closes the channel.
        await broker.DeclareDirectAsync("refuses");
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
        {
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
            await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
        }

        await stack.ExecuteAsync($"""
            insert into outbox_message (bus, visible_at, message_id, message_type, content_type, headers, properties, body)
            select bus, visible_at, gen_random_uuid(), message_type, content_type, headers, properties, body
            from outbox_message, generate_series(1, {Messages - 3}) where id = (select min(id) from outbox_message);
            update outbox_message set destination = 'exchange:refuses' where id = (select min(id) from outbox_message);
            update outbox_message set headers = 'truncated' where id = (select min(id) + 1 from outbox_message)
            """);
        await using var app = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.MaxAttempts = 3));

        // Only that others get through proves that the broker is up and the message to blame.
        await Eventually.BecomesAsync(
            async () =>
            {
                await app.PublishAsync(new OrderPlaced(Guid.NewGuid()));
                return await stack.ReadAsync(db => db.DeadLetters.CountAsync()) == 2;
            },
            "two messages are given up");
        await stack.DrainedAsync();
        (await broker.CountAsync(Queue)).Should().BeGreaterThanOrEqualTo(Messages - 2);
        (await stack.ReadAsync(db => db.DeadLetters.OrderBy(letter => letter.OutboxId).Select(letter => letter.Reason).ToListAsync()))
            .Should().Equal(nameof(DeadLetterReason.Refused), nameof(DeadLetterReason.Corrupt));

        await using var db = stack.Open();
        await Eventually.BecomesAsync(async () => await ChangesWhilePollingAsync(db) == 0, "nothing is claimed, rescheduled or deleted any more");
        var (before, started) = (await ActivityAsync(db), Stopwatch.GetTimestamp());
        var after = await Eventually.BecomesAsync(() => ActivityAsync(db), activity => activity.Scans >= before.Scans + Polls, "some polls have passed");
        Stopwatch.GetElapsedTime(started).Should().BeGreaterThan((after.Scans - before.Scans - FlushedLate) * LeastPause, "a loop that spins would ask without a pause");
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
}
