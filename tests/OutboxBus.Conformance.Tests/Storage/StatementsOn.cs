using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// The statements about envelopes do what the dialect's contract says.
public abstract class StatementsOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private protected static readonly TimeSpan Lease = TimeSpan.FromMinutes(5);
    private protected static readonly DateTime Past = new(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc);
    private protected const string Bus = "main";

    private protected OutboxStore Store => Database.CreateStore();

    [SkippableFact]
    public async Task Claim_takes_due_rows_of_the_bus_only()
    {
        var due = New();
        var ofAnotherBus = New(row => row.Bus = "other");
        var ofAnotherKind = New(row => row.Kind = 1);
        var ordered = New(row => row.Lane = 3);
        var later = New(row => row.VisibleAt = DateTime.UtcNow.AddHours(1));
        var fresh = New(row => row.VisibleAt = default);
        await InsertAsync(due, ofAnotherBus, ofAnotherKind, ordered, later, fresh);

        var claimed = await Store.ClaimAsync(Bus, 100, Lease, default);

        claimed.Select(row => row.MessageId).Should().Equal(due.MessageId);
        (await StoredAsync()).Where(row => row.ClaimCount > 0).Select(row => row.MessageId).Should().Equal(due.MessageId);
    }

    [SkippableFact]
    public async Task Claim_takes_the_longest_due_first_and_honours_the_limit()
    {
        var rows = new[] { 3, 1, 4, 0, 2 }.Select(minutes => New(row => row.VisibleAt = Past.AddMinutes(minutes))).ToArray();
        await InsertAsync(rows);

        var claimed = await Store.ClaimAsync(Bus, 2, Lease, default);
        var rest = await Store.ClaimAsync(Bus, 2, Lease, default);

        // Returned in the order of ids, whatever the order of the claim.
        claimed.Select(row => row.MessageId).Should().Equal(rows[1].MessageId, rows[3].MessageId);
        rest.Select(row => row.MessageId).Should().Equal(rows[0].MessageId, rows[4].MessageId);
        claimed.Concat(rest).Should().OnlyContain(row => row.Id > 0);
    }

    [SkippableFact]
    public async Task Claim_leases_by_the_clock_of_the_database_and_counts()
    {
        await InsertAsync(New(row => row.ClaimCount = 4));
        var before = await Database.NowAsync();

        var claimed = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();

        var after = await Database.NowAsync();
        claimed.VisibleAt.Should().BeOnOrAfter(before + Lease).And.BeOnOrBefore(after + Lease);
        claimed.ClaimCount.Should().Be(5);
        (await StoredAsync()).Single().Should().BeEquivalentTo(claimed, "what the claim returns is what is stored");
        (await Store.ClaimAsync(Bus, 10, Lease, default)).Should().BeEmpty("the row is leased");
    }

    [SkippableFact]
    public async Task Claim_returns_every_column_as_it_was_written()
    {
        var written = Full();
        await InsertAsync(written);

        var claimed = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();

        claimed.Should().BeEquivalentTo(written, but => but.Excluding(row => row.VisibleAt).Excluding(row => row.ClaimCount));
        claimed.VisibleAt.Kind.Should().Be(DateTimeKind.Utc);
        claimed.CreatedAt.Kind.Should().Be(DateTimeKind.Utc);
        claimed.DueAt!.Value.Kind.Should().Be(DateTimeKind.Utc);
        claimed.ExpiresAt!.Value.Kind.Should().Be(DateTimeKind.Utc);
    }

    [SkippableFact]
    public async Task Concurrent_claimers_never_get_the_same_row()
    {
        for (var round = 0; round < 10; round++)
        {
            await Database.ClearAsync();
            await InsertAsync([.. Enumerable.Range(0, 60).Select(_ => New())]);

            var claimed = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(ClaimUntilNoneAsync)));

            claimed.SelectMany(ids => ids).Should().OnlyHaveUniqueItems().And.HaveCount(60);
            (await StoredAsync()).Should().OnlyContain(row => row.ClaimCount == 1);
        }
    }

    [SkippableFact]
    public async Task Verify_finds_only_rows_that_are_committed_and_unchanged()
    {
        var unchanged = New(row => row.VisibleAt = default);
        var claimed = New();
        var deleted = New(row => row.VisibleAt = default);
        var reissued = New(row => row.VisibleAt = default);
        await InsertAsync(unchanged, claimed, deleted, reissued);
        await Store.ClaimAsync(Bus, 10, Lease, default);
        await Store.SettleAsync(Completed(deleted), default);
        reissued.MessageId = Guid.NewGuid();
        var neverStored = New(row => (row.Id, row.VisibleAt) = (1_000_000, DateTime.UtcNow));

        var found = await Store.VerifyAsync([unchanged, claimed, deleted, reissued, neverStored], default);

        found.Should().Equal(unchanged);
    }

    [SkippableFact]
    public async Task Complete_deletes_by_the_pair_of_id_and_message_id()
    {
        var confirmed = New();
        var reissued = New();
        var untouched = New();
        await InsertAsync(confirmed, reissued, untouched);
        var stale = New(row => row.Id = reissued.Id);

        await Store.SettleAsync(Completed(confirmed, stale), default);

        (await StoredAsync()).Select(row => row.MessageId).Should().Equal(reissued.MessageId, untouched.MessageId);
    }

    [SkippableFact]
    public async Task Complete_deletes_a_thousand_rows_at_once()
    {
        var rows = Enumerable.Range(0, 1000).Select(_ => New()).ToArray();
        await InsertAsync(rows);

        await Store.SettleAsync(Completed(rows), default);

        (await StoredAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Reschedule_writes_delay_counters_and_error()
    {
        await InsertAsync(New());
        var claimed = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();
        var before = await Database.NowAsync();

        await Store.SettleAsync(Rescheduled(new Rescheduling(claimed, TimeSpan.FromMinutes(7), 3, 2, "it's \"refused\" 😀")), default);

        var after = await Database.NowAsync();
        var stored = (await StoredAsync()).Single();
        stored.VisibleAt.Should().BeOnOrAfter(before.AddMinutes(7)).And.BeOnOrBefore(after.AddMinutes(7));
        stored.Should().BeEquivalentTo(claimed, but => but.Excluding(row => row.VisibleAt).Excluding(row => row.Attempts).Excluding(row => row.ClaimCount).Excluding(row => row.LastError));
        (stored.Attempts, stored.ClaimCount, stored.LastError).Should().Be((3, 2, "it's \"refused\" 😀"));
    }

    [SkippableFact]
    public async Task Reschedule_keeps_the_last_error_when_there_is_no_new_one()
    {
        await InsertAsync(New(row => row.LastError = "old"), New(row => row.LastError = "old"));
        var claimed = await Store.ClaimAsync(Bus, 10, Lease, default);

        await Store.SettleAsync(
            Rescheduled(new Rescheduling(claimed[0], TimeSpan.Zero, 1, 0, null), new Rescheduling(claimed[1], TimeSpan.Zero, 1, 0, "new")), default);

        (await StoredAsync()).Select(row => row.LastError).Should().Equal("old", "new");
    }

    [SkippableTheory]
    [InlineData("\0")]
    [InlineData("\ud83d")]
    [InlineData("cut")]
    public async Task Whatever_an_error_says_it_can_be_stored(string text)
    {
        // A pair of surrogates that the limit on the length cuts in two.
        var message = text == "cut" ? string.Concat(Enumerable.Repeat("😀", 1000)) : text;
        await InsertAsync(New(), New());
        var claimed = await Store.ClaimAsync(Bus, 10, Lease, default);
        var options = new DeliveryOptions { MaxAttempts = 2 };
        claimed[1].Attempts = 1;
        var verdicts = claimed.Select(row => DeliveryPolicy.Judge(row, SendOutcome.Refused(new IOException(message)), true, Lease, DateTimeOffset.UtcNow, options, new Random(1)));

        await Store.SettleAsync(SettlementBatch.From([.. verdicts]), default);

        (await StoredAsync()).Single().LastError.Should().StartWith("System.IO.IOException: ");
        (await DeadLettersAsync()).Single().Error.Should().StartWith("System.IO.IOException: ");
    }

    [SkippableFact]
    public async Task A_row_rescheduled_without_delay_is_claimed_again()
    {
        await InsertAsync(New());
        var claimed = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();

        await Store.SettleAsync(Rescheduled(new Rescheduling(claimed, TimeSpan.Zero, 0, 0, null)), default);

        (await Store.ClaimAsync(Bus, 10, Lease, default)).Single().MessageId.Should().Be(claimed.MessageId);
    }

    [SkippableFact]
    public async Task Reschedule_and_bury_change_nothing_under_a_stale_lease()
    {
        await InsertAsync(New());
        var first = (await Store.ClaimAsync(Bus, 10, TimeSpan.Zero, default)).Single();
        await Eventually.BecomesAsync(async () => await Database.NowAsync() > first.VisibleAt, "the first lease has run out");
        var second = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();

        await Store.SettleAsync(Rescheduled(new Rescheduling(first, TimeSpan.Zero, 9, 9, "stale")), default);
        await Store.SettleAsync(Buried(new Burial(first, DeadLetterReason.Refused, 9, "stale")), default);

        (await StoredAsync()).Single().Should().BeEquivalentTo(second);
        (await DeadLettersAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Reschedule_and_bury_change_nothing_when_the_id_was_issued_again()
    {
        await InsertAsync(New());
        var claimed = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();
        var other = New(row => (row.Id, row.VisibleAt) = (claimed.Id, claimed.VisibleAt));

        await Store.SettleAsync(Rescheduled(new Rescheduling(other, TimeSpan.Zero, 9, 9, "stale")), default);
        await Store.SettleAsync(Buried(new Burial(other, DeadLetterReason.Refused, 9, "stale")), default);

        (await StoredAsync()).Single().Should().BeEquivalentTo(claimed);
        (await DeadLettersAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task The_time_of_a_fresh_row_as_the_insert_returned_it_passes_the_fence()
    {
        var row = New(row => row.VisibleAt = default);
        await InsertAsync(row);

        await Store.SettleAsync(Rescheduled(new Rescheduling(row, TimeSpan.Zero, 1, 0, "refused")), default);

        (await StoredAsync()).Single().Attempts.Should().Be(1);
    }

    [SkippableFact]
    public async Task Bury_moves_every_column_to_the_dead_letters()
    {
        await InsertAsync(Full(), New());
        var claimed = await Store.ClaimAsync(Bus, 1, Lease, default);
        var before = await Database.NowAsync();

        await Store.SettleAsync(Buried(new Burial(claimed.Single(), DeadLetterReason.Refused, 11, "no")), default);

        var after = await Database.NowAsync();
        var letter = (await DeadLettersAsync()).Single();
        letter.Should().BeEquivalentTo(
            claimed.Single(),
            but => but.Excluding(row => row.Id).Excluding(row => row.VisibleAt).Excluding(row => row.Attempts).Excluding(row => row.LastError));
        letter.OutboxId.Should().Be(claimed.Single().Id);
        (letter.Attempts, letter.Reason, letter.Error).Should().Be((11, nameof(DeadLetterReason.Refused), "no"));
        letter.FailedAt.Should().BeOnOrAfter(before).And.BeOnOrBefore(after);
        (await StoredAsync()).Should().ContainSingle().Which.Id.Should().NotBe(letter.OutboxId);
    }

    [SkippableFact]
    public async Task Bury_keeps_the_last_error_when_there_is_no_new_one()
    {
        await InsertAsync(New(row => row.LastError = "old"), New());
        var claimed = await Store.ClaimAsync(Bus, 10, Lease, default);

        await Store.SettleAsync(Buried([.. claimed.Select(row => new Burial(row, DeadLetterReason.Expired, row.Attempts, null))]), default);

        (await DeadLettersAsync()).Select(letter => letter.Error).Should().Equal("old", null);
        (await StoredAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Bury_that_is_rolled_back_leaves_the_row_where_it_was()
    {
        await InsertAsync(New());
        var claimed = (await Store.ClaimAsync(Bus, 10, Lease, default)).Single();
        await using (var connection = await Database.OpenAsync())
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            await using var command = connection.CreateCommand();
            command.Transaction = transaction;
            Database.CreateDialect(Database.Tables).Bury(command, new Burial(claimed, DeadLetterReason.Corrupt, 1, null));
            await command.ExecuteNonQueryAsync();
        }

        (await StoredAsync()).Single().Should().BeEquivalentTo(claimed);
        (await DeadLettersAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task CancelScheduled_deletes_the_rows_of_the_tokens_and_the_bus_only()
    {
        var (token, shared, other) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        await InsertAsync(
            New(row => row.ScheduleToken = token),
            New(row => (row.ScheduleToken, row.VisibleAt) = (shared, DateTime.UtcNow.AddHours(1))),
            New(row => row.ScheduleToken = shared));
        var kept = new[]
        {
            New(),
            New(row => row.ScheduleToken = other),
            New(row => (row.ScheduleToken, row.Bus) = (token, "other")),
            New(row => (row.ScheduleToken, row.Kind) = (token, 1)),
        };
        await InsertAsync(kept);

        (await CancelAsync(token, shared, Guid.NewGuid())).Should().Be(3);

        (await StoredAsync()).Select(row => row.MessageId).Should().Equal(kept.Select(row => row.MessageId));
        (await CancelAsync(token)).Should().Be(0);
    }

    [SkippableFact]
    public async Task Repeating_a_settlement_changes_nothing_more()
    {
        await InsertAsync(New(), New(), New());
        var claimed = await Store.ClaimAsync(Bus, 10, Lease, default);
        var batch = new SettlementBatch(
            [claimed[0]],
            [new Rescheduling(claimed[1], 2 * Lease, 1, 0, null)],
            [new Burial(claimed[2], DeadLetterReason.Refused, 1, null)]);
        await Store.SettleAsync(batch, default);
        var afterFirst = await StoredAsync();

        await Store.SettleAsync(batch, default);

        (await StoredAsync()).Should().BeEquivalentTo(afterFirst).And.HaveCount(1);
        (await DeadLettersAsync()).Should().HaveCount(1);
    }

    [SkippableFact]
    public async Task Status_counts_due_rows_and_dead_letters_of_the_bus()
    {
        var now = await Database.NowAsync();
        await InsertAsync(
            New(row => row.CreatedAt = now.AddMinutes(-10)),
            New(row => (row.CreatedAt, row.VisibleAt) = (now.AddMinutes(-1), Past.AddMinutes(1))),
            New(row => row.VisibleAt = now.AddHours(1)),
            New(row => row.Kind = 1),
            New(row => row.Lane = 1),
            New(row => row.Bus = "other"));
        await BuryOneAsync("other");

        var status = await Store.StatusAsync(Bus, 100, default);

        (status.Pending, status.DeadLetters).Should().Be((2, 0));
        status.OldestPending.Should().BeGreaterThanOrEqualTo(TimeSpan.FromMinutes(9.9));
        (await Store.StatusAsync(Bus, 1, default)).Pending.Should().Be(1, "counting stops at the limit");
        (await Store.StatusAsync("other", 100, default)).DeadLetters.Should().Be(1);
    }

    [SkippableFact]
    public async Task Status_of_an_empty_outbox_has_no_age()
        => (await Store.StatusAsync(Bus, 100, default)).Should().Be(new OutboxStatus(0, null, 0));

    [SkippableFact]
    public async Task A_delayed_message_ages_from_when_it_was_due()
    {
        var now = await Database.NowAsync();
        await InsertAsync(New(row => (row.CreatedAt, row.DueAt) = (now.AddDays(-7), now.AddMinutes(-2))));

        (await Store.StatusAsync(Bus, 100, default)).OldestPending.Should().BeGreaterThanOrEqualTo(TimeSpan.FromMinutes(1.9)).And.BeLessThan(TimeSpan.FromDays(1));
    }

    [SkippableFact]
    public async Task Ids_are_never_issued_twice()
    {
        var first = New();
        await InsertAsync(first);
        await Store.SettleAsync(Completed(first), default);
        var second = New();

        await InsertAsync(second);

        second.Id.Should().BeGreaterThan(first.Id);
    }

    private protected static Envelope New(Action<Envelope>? change = null)
    {
        var row = new Envelope
        {
            Bus = Bus,
            VisibleAt = Past,
            MessageId = Guid.NewGuid(),
            MessageType = "urn:message:Test",
            ContentType = "application/json",
            Body = [1, 2, 3],
        };
        change?.Invoke(row);
        return row;
    }

    private protected static Envelope Full() => New(row =>
    {
        row.DueAt = Past.AddMilliseconds(123);
        row.Attempts = 2;
        row.ClaimCount = 1;
        // Neither lane nor kind: such rows are not claimed.
        row.OrderingKey = "customer 7";
        row.Seq = 5;
        row.Destination = "queue:stock";
        row.MessageType = "urn:message:Übung:It's";
        row.Headers = """{"a":"\u0000 '\" 😀"}""";
        row.Properties = "{}";
        row.Body = [0, 1, 127, 128, 255];
        row.CreatedAt = Past.AddMilliseconds(-7);
        row.ExpiresAt = Past.AddYears(100);
        row.ScheduleToken = Guid.NewGuid();
        row.LastError = "earlier";
    });

    private async Task<int> CancelAsync(params Guid[] tokens)
    {
        await using var connection = await Database.OpenAsync();
        await using var command = connection.CreateCommand();
        Database.CreateDialect(Database.Tables).CancelScheduled(command, Bus, tokens);
        return await command.ExecuteNonQueryAsync();
    }

    private protected static SettlementBatch Completed(params Envelope[] rows) => new(rows, [], []);

    private protected static SettlementBatch Rescheduled(params Rescheduling[] rows) => new([], rows, []);

    private protected static SettlementBatch Buried(params Burial[] rows) => new([], [], rows);

    private protected async Task InsertAsync(params Envelope[] rows)
    {
        await using var context = Database.CreateShop();
        foreach (var row in rows)
        {
            context.Add(row);
            // One by one: the tests rely on ids in this order.
            if (rows.Length < 100)
                await context.SaveChangesAsync();
        }

        await context.SaveChangesAsync();
    }

    private protected async Task<List<Envelope>> StoredAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Set<Envelope>().AsNoTracking().OrderBy(row => row.Id).ToListAsync();
    }

    private protected async Task<List<DeadLetter>> DeadLettersAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Set<DeadLetter>().AsNoTracking().OrderBy(row => row.Id).ToListAsync();
    }

    private async Task BuryOneAsync(string bus)
    {
        var claimed = await Store.ClaimAsync(bus, 1, Lease, default);
        await Store.SettleAsync(Buried(new Burial(claimed.Single(), DeadLetterReason.Refused, 1, null)), default);
    }

    private async Task<List<long>> ClaimUntilNoneAsync()
    {
        var ids = new List<long>();
        while (await Store.ClaimAsync(Bus, 7, Lease, default) is { Count: > 0 } claimed)
            ids.AddRange(claimed.Select(row => row.Id));
        return ids;
    }
}

public sealed class StatementsOnSqlite(SqliteDatabase database) : StatementsOn<SqliteDatabase>(database);

public sealed class StatementsOnPostgreSql(PostgreSqlDatabase database) : StatementsOn<PostgreSqlDatabase>(database)
{
    [SkippableFact]
    public async Task A_row_that_another_transaction_holds_is_skipped_and_not_waited_for()
    {
        var held = New();
        var free = New(row => row.VisibleAt = Past.AddMinutes(1));
        await InsertAsync(held, free);
        await using var connection = await Database.OpenAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = $"select 1 from outbox_message where id = {held.Id} for update";
        await command.ExecuteScalarAsync();

        var claimed = await Store.ClaimAsync(Bus, 10, Lease, default);
        var verified = await Store.VerifyAsync([held], default);

        claimed.Select(row => row.MessageId).Should().Equal(free.MessageId);
        verified.Should().Equal(held);
    }

    [SkippableFact]
    public async Task A_row_not_yet_committed_is_neither_claimed_nor_verified()
    {
        await using var context = Database.CreateShop();
        await using var transaction = await context.Database.BeginTransactionAsync();
        var row = New();
        context.Add(row);
        await context.SaveChangesAsync();

        (await Store.ClaimAsync(Bus, 10, Lease, default)).Should().BeEmpty();
        (await Store.VerifyAsync([row], default)).Should().BeEmpty();
    }

    // As docs/state-machine.md says.
    [SkippableFact]
    public async Task A_dead_letter_that_is_moved_back_is_claimed_like_new()
    {
        var document = await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "state-machine.md"));
        var statement = document.Split("```sql")[1].Split("```")[0];
        await InsertAsync(New(row => row.ExpiresAt = Past));
        var buried = (await Store.ClaimAsync(Bus, 1, Lease, default)).Single();
        await Store.SettleAsync(SettlementBatch.From([Verdict.Bury(new Burial(buried, DeadLetterReason.Refused, 10, "no"))]), default);
        var letter = (await DeadLettersAsync()).Single();

        await using (var connection = await Database.OpenAsync(Database.OwnerConnectionString))
        await using (var command = connection.CreateCommand())
        {
            command.CommandText = statement.Replace("id = 42", $"id = {letter.Id}", StringComparison.Ordinal);
            await command.ExecuteNonQueryAsync();
        }

        var claimed = (await Store.ClaimAsync(Bus, 1, Lease, default)).Should().ContainSingle().Which;
        claimed.Should().BeEquivalentTo(
            buried,
            but => but.Excluding(row => row.Id).Excluding(row => row.VisibleAt).Excluding(row => row.CreatedAt).Excluding(row => row.ExpiresAt).Excluding(row => row.LastError));
        claimed.ExpiresAt.Should().BeNull();
        (await DeadLettersAsync()).Should().BeEmpty();
    }
}
