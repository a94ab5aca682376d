using CsCheck;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using OutboxBus.Storage;
using Xunit;

namespace OutboxBus.Conformance.Tests.Delivery;

// Every row is at every time in exactly one state of docs/state-machine.md, whatever its columns hold. CsCheck prints the seed of a
// failure; CsCheck_Seed repeats it.
public abstract class StatesOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private const string Bus = "main";
    private const int Rounds = 25;
    private const int RowsPerRound = 40;

    private static readonly TimeSpan Lease = TimeSpan.FromHours(2);
    private static readonly TimeSpan Retention = TimeSpan.FromHours(24);

    // Never so near to the present that the time a statement takes would decide.
    private static readonly Gen<TimeSpan> Offset = Gen.OneOf(Gen.Int[-5000, -60], Gen.Int[60, 5000]).Select(seconds => TimeSpan.FromSeconds(seconds));

    private static readonly Gen<Row> OutboxRow = Gen.Select(
        OneOf<short>(0, 0, 0, 0, 1, 2, -1, short.MaxValue),
        OneOf<short?>(null, null, null, 0, 7),
        Offset,
        Gen.Select(Gen.Bool, Offset, (set, offset) => set ? offset : (TimeSpan?)null),
        Gen.Select(Gen.Bool, Offset, (set, offset) => set ? offset : (TimeSpan?)null),
        Gen.Int[0, 12],
        Gen.OneOf(Gen.Int[0, 4], Gen.Int[998, 1002], Gen.Int[1998, 2002], Gen.Int[2997, 3003]),
        (kind, lane, visible, due, expires, attempts, claims) => new Row(kind, lane, visible, due, expires, attempts, claims));

    [SkippableFact]
    public void Row_of_the_outbox_is_at_every_time_in_exactly_one_state()
        => OutboxRow.Array[RowsPerRound].Sample(rows => ObserveOutboxAsync(rows).GetAwaiter().GetResult(), iter: Rounds, threads: 1);

    [SkippableFact]
    public void Record_of_the_inbox_is_at_every_time_either_remembered_or_purged()
        => Offset.Array[RowsPerRound].Sample(ages => ObserveInboxAsync(ages).GetAwaiter().GetResult(), iter: Rounds, threads: 1);

    private async Task ObserveOutboxAsync(Row[] rows)
    {
        await Database.ClearAsync();
        var now = await Database.NowAsync();
        var stored = rows.Select(row => row.StoredAt(now)).ToList();
        await using (var shop = Database.CreateShop())
        {
            shop.AddRange(stored);
            await shop.SaveChangesAsync();
        }

        var store = Database.CreateStore();
        var claimed = (await store.ClaimAsync(Bus, 2 * RowsPerRound, Lease, default)).ToDictionary(envelope => envelope.Id);
        (await store.ClaimAsync(Bus, 2 * RowsPerRound, Lease, default)).Should().BeEmpty("a claim takes all there is");
        await store.PurgeInboxAsync(TimeSpan.Zero, 2 * RowsPerRound, default);
        await using var after = Database.CreateShop();
        var left = await after.Set<Envelope>().AsNoTracking().ToDictionaryAsync(envelope => envelope.Id);

        for (var row = 0; row < rows.Length; row++)
        {
            var id = stored[row].Id;
            var treatment = claimed.TryGetValue(id, out var envelope) ? DeliveryPolicy.Triage(envelope, suspect: false, now) : (Treatment?)null;
            State[] states =
            [
                .. treatment is Treatment.Send or Treatment.SendApart or Treatment.SendAlone ? [State.Send] : Array.Empty<State>(),
                .. treatment is Treatment.BuryExpired or Treatment.BuryNoOutcome ? [State.DeadLetter] : Array.Empty<State>(),
                .. treatment is null && left.TryGetValue(id, out var waiting) && waiting.VisibleAt == Stored(stored[row].VisibleAt) ? [State.Wait] : Array.Empty<State>(),
                .. left.ContainsKey(id) ? Array.Empty<State>() : [State.Purge],
            ];
            states.Should().Equal([rows[row].ExpectedState], $"that is the state of {rows[row]}");
        }
    }

    private async Task ObserveInboxAsync(TimeSpan[] ages)
    {
        await Database.ClearAsync();
        var now = await Database.NowAsync();
        var keys = ages.Select(_ => new InboxKey(Guid.NewGuid(), "consumer")).ToList();
        await using (var shop = Database.CreateShop())
        {
            shop.AddRange(keys.Zip(ages, (key, age) => new InboxMessage { MessageId = key.MessageId, Consumer = key.Consumer, ConsumedAt = now - Retention + age }));
            await shop.SaveChangesAsync();
        }

        var store = Database.CreateStore();
        var purged = await store.PurgeInboxAsync(Retention, 2 * RowsPerRound, default);

        purged.Should().Be(ages.Count(age => age < TimeSpan.Zero));
        for (var record = 0; record < keys.Count; record++)
            (await store.IsConsumedAsync(keys[record], default)).Should().Be(ages[record] > TimeSpan.Zero, $"it was consumed {ages[record]} after what is past retention");
    }

    private static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(index => values[index]);

    // As the engine gives it back.
    private static DateTime Stored(DateTime time) => new(time.Ticks / TimeSpan.TicksPerMillisecond * TimeSpan.TicksPerMillisecond, DateTimeKind.Utc);

    private enum State
    {
        Send,
        Wait,
        DeadLetter,
        Purge,
    }

    // Times are relative to the present.
    private sealed record Row(short Kind, short? Lane, TimeSpan Visible, TimeSpan? Due, TimeSpan? Expires, int Attempts, int Claims)
    {
        // docs/state-machine.md in one expression. Neither the due time nor the attempts decide.
        public State ExpectedState => this switch
        {
            { Kind: not 0 } or { Lane: not null } => State.Wait,
            _ when Visible > TimeSpan.Zero => State.Wait,
            _ when Expires <= TimeSpan.Zero => State.DeadLetter,
            { Claims: >= 2999 } => State.DeadLetter,
            _ => State.Send,
        };

        public Envelope StoredAt(DateTime now) => new()
        {
            Kind = Kind,
            Bus = Bus,
            VisibleAt = Stored(now + Visible),
            DueAt = now + Due,
            ExpiresAt = now + Expires,
            Attempts = Attempts,
            ClaimCount = Claims,
            Lane = Lane,
            MessageId = Guid.NewGuid(),
            MessageType = "urn:message:Test:Happened",
            ContentType = "application/json",
            Body = [1],
        };
    }
}

public sealed class StatesOnSqlite(SqliteDatabase database) : StatesOn<SqliteDatabase>(database);

public sealed class StatesOnPostgreSql(PostgreSqlDatabase database) : StatesOn<PostgreSqlDatabase>(database);
