using System.Collections.Concurrent;
using FluentAssertions;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;
using OutboxBus.Delivery;
using OutboxBus.TestServers;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class DeliveryLoopTests : IAsyncLifetime
{
    private const int SqliteBusy = 5;

    // A loop sends suspects only when it has lived for a lease.
    private static readonly (TimeSpan Lease, TimeSpan SendTimeout) ShortLease = (TimeSpan.FromSeconds(1), TimeSpan.FromMilliseconds(500));

    private static readonly InvalidOperationException Error = new("The broker said no.");

    private readonly LoopHarness _loop = new();

    private SqliteDatabase Database => _loop.Database;

    private ScriptedSender Sender => _loop.Sender;

    private RecordedLogs Logs => _loop.Logs;

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync() => await _loop.DisposeAsync();

    [Fact]
    public async Task What_was_handed_off_is_sent_without_a_claim_and_deleted_once_confirmed()
    {
        var envelope = Database.AddLeased();
        _loop.Offer(CommitCertainty.Proven, envelope);

        _loop.Start();

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().Equal(envelope.MessageId);
        _loop.Metrics.Sum("outboxbus.claimed").Should().Be(0);
        Database.Faults.Calls(nameof(AdjustableDialect.Verify)).Should().Be(0);
    }

    [Fact]
    public async Task Row_nobody_handed_over_is_claimed_and_sent()
    {
        var envelopes = Enumerable.Range(0, 20).Select(_ => Database.AddDue().MessageId).ToList();

        _loop.Start();

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().BeEquivalentTo(envelopes);
        _loop.Metrics.Sum("outboxbus.claimed").Should().Be(20);
    }

    // The rows are leased for ten minutes.
    [Fact]
    public async Task What_had_no_room_in_memory_is_given_back_and_claimed()
    {
        // More than one batch of keys, and nothing but the giving back to wake the loop.
        const int Messages = 2_500;
        _loop.Options.HandOffMessages = 300;
        _loop.Options.PollInterval = TimeSpan.FromMinutes(5);
        var first = Database.AddLeased();
        _loop.Offer(CommitCertainty.Proven, first);
        var overflow = Database.AddManyLeased(Messages, bodyBytes: 1);
        _loop.Offer(CommitCertainty.Proven, overflow);

        _loop.Start();

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().BeEquivalentTo(overflow.Append(first).Select(envelope => envelope.MessageId)).And.OnlyHaveUniqueItems();
        _loop.Metrics.Sum("outboxbus.claimed").Should().Be(Messages);
    }

    // What the database cannot remove makes claims slow that find nothing.
    [Fact]
    public async Task A_dear_claim_is_followed_by_claims_of_what_is_recent()
    {
        Database.Faults.Before = statement =>
        {
            if (statement == nameof(AdjustableDialect.Claim))
                Thread.Sleep(20);
        };

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.Faults.ClaimedWithin.Count(within => within is null) > 1, "everything is looked at again");
        var looks = Database.Faults.ClaimedWithin.ToList();
        looks[0].Should().BeNull();
        looks.Skip(1).TakeWhile(within => within is not null).Should().NotBeEmpty().And.OnlyContain(within => within >= TimeSpan.FromSeconds(1)).And.BeInAscendingOrder();
    }

    // Its row may not exist, or not yet: giving it back must do nothing to what took its place.
    [Fact]
    public async Task What_had_no_room_is_given_back_only_if_it_is_still_as_it_was_stored()
    {
        _loop.Options.HandOffMessages = 1;
        var other = Database.AddLeased();
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());
        _loop.Offer(CommitCertainty.Unverified, new Envelope { Id = other.Id, MessageId = Guid.NewGuid(), CreatedAt = other.CreatedAt, VisibleAt = other.VisibleAt });

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.OutboxRows == 1, "the one with room is sent");
        await Eventually.BecomesAsync(() => Database.Faults.Calls(nameof(AdjustableDialect.Reschedule)) > 0, "the other is given back");
        await StaysAsync(() => Database.OutboxRows == 1, turns: 5);
        Database.Count("outbox_message", "claim_count = 0").Should().Be(1);
    }

    // Each statement takes SQLite's only writer; on a server each is a round trip.
    [Fact]
    public async Task Messages_under_load_share_their_deletion()
    {
        const int Messages = 2_000;
        _loop.Options.SettleDelay = TimeSpan.FromSeconds(1);
        _loop.Offer(CommitCertainty.Proven, Database.AddManyLeased(Messages, bodyBytes: 1));

        _loop.Start();

        await OutboxIsEmptyAsync();
        Database.Faults.Calls(nameof(AdjustableDialect.Complete)).Should().BePositive().And.BeLessThanOrEqualTo(Messages / 50);
    }

    [Fact]
    public async Task Row_of_another_bus_is_left_alone()
    {
        Database.AddDue(envelope => envelope.Bus = "other");
        Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.OutboxRows == 1, "the own row is gone");
        Database.Count("outbox_message", "bus = 'other' and claim_count = 0").Should().Be(1);
    }

    [Fact]
    public async Task Row_stays_until_the_broker_has_confirmed()
    {
        var answer = new TaskCompletionSource<SendOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        Sender.Script = (_, _) => answer.Task;
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started == 1, "the message is under way");

        Database.OutboxRows.Should().Be(1);

        answer.SetResult(SendOutcome.Confirmed);
        await OutboxIsEmptyAsync();
    }

    [Fact]
    public async Task Unverified_message_whose_row_was_rolled_back_is_never_sent()
    {
        var committed = Database.AddLeased();
        var rolledBack = Database.AddLeased();
        Database.Execute($"delete from outbox_message where id = {rolledBack.Id}");
        _loop.Offer(CommitCertainty.Unverified, committed, rolledBack);

        _loop.Start();
        await OutboxIsEmptyAsync();
        await _loop.StopAsync();

        Sender.Confirmed.Should().Equal(committed.MessageId);
        Sender.Started.Should().Be(1);
    }

    [Fact]
    public async Task Unverified_message_is_not_sent_while_the_database_cannot_be_asked()
    {
        var envelope = Database.AddLeased();
        Database.Faults.Before = statement => ThrowOn(statement, nameof(AdjustableDialect.Verify));
        _loop.Offer(CommitCertainty.Unverified, envelope);

        await _loop.TurnAsync();

        Sender.Started.Should().Be(0);
        Database.OutboxRows.Should().Be(1);
        Logs.Count(401).Should().Be(1);
    }

    [Fact]
    public async Task Hand_off_whose_lease_is_too_short_for_a_send_is_left_to_the_next_claim()
    {
        var envelope = Database.AddLeased();
        envelope.VisibleAt = envelope.CreatedAt + _loop.Options.SendTimeout - TimeSpan.FromMilliseconds(1);
        _loop.Offer(CommitCertainty.Proven, envelope);

        await _loop.TurnAsync();

        _loop.HandOff.IsEmpty.Should().BeTrue();
        Sender.Started.Should().Be(0);
        Database.OutboxRows.Should().Be(1);
    }

    [Fact]
    public async Task Refused_message_backs_off_with_its_attempts_in_the_row()
    {
        _loop.Options.MinBackoff = _loop.Options.MaxBackoff = TimeSpan.FromHours(1);
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.Refused(Error));
        var envelope = Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "attempts = 1") == 1, "the refusal is in the row");
        Database.Read<string>("select last_error from outbox_message").Should().Contain("The broker said no.");
        Database.Read<long>("select claim_count from outbox_message").Should().Be(0);
        Database.Count("outbox_message", "visible_at > unixepoch('subsec') * 1000 + 40 * 60 * 1000").Should().Be(1);
        Sender.SendsOf(envelope).Should().Be(1);
        Logs.Count(206).Should().Be(1);
    }

    [Fact]
    public async Task Message_refused_to_the_last_attempt_is_a_dead_letter_with_body_and_reason()
    {
        _loop.Options.MaxAttempts = 3;
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.Refused(Error));
        var envelope = Database.AddDue(due =>
        {
            due.Body = [4, 5, 6];
            due.Headers = """{"a":"b"}""";
        });

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.DeadLetters == 1, "the message is a dead letter");
        Database.OutboxRows.Should().Be(0);
        Sender.SendsOf(envelope).Should().Be(3);
        Database.Read<string>("select reason from outbox_dead_letter").Should().Be(nameof(DeadLetterReason.Refused));
        Database.Read<string>("select error from outbox_dead_letter").Should().Contain("The broker said no.");
        Database.Read<long>("select attempts from outbox_dead_letter").Should().Be(3);
        Database.Read<byte[]>("select body from outbox_dead_letter").Should().Equal(4, 5, 6);
        Database.Read<string>("select headers from outbox_dead_letter").Should().Be("""{"a":"b"}""");
        Database.Count("outbox_dead_letter", $"message_id = {SqliteDatabase.Text(envelope.MessageId)} and outbox_id = {envelope.Id}").Should().Be(1);
        Logs.Messages.Should().ContainSingle(message => message.EventId == 207 && message.Level == LogLevel.Error);
    }

    [Fact]
    public async Task Outage_is_reported_once_costs_no_attempt_and_ends_with_everything_delivered()
    {
        var up = false;
        Sender.Script = (_, _) => Task.FromResult(Volatile.Read(ref up) ? SendOutcome.Confirmed : SendOutcome.TransportFailed(Error));
        var envelopes = Enumerable.Range(0, 20).Select(_ => Database.AddDue().MessageId).ToList();
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started > 30, "the broker has been probed again and again");

        Database.Count("outbox_message", "attempts = 0").Should().Be(20);
        Logs.Count(208).Should().Be(1);
        Volatile.Write(ref up, true);

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().BeEquivalentTo(envelopes);
        Database.DeadLetters.Should().Be(0);
        Logs.Count(208).Should().Be(1);
        Logs.Count(209).Should().Be(1);
        _loop.Metrics.Sum("outboxbus.outages").Should().Be(1);
    }

    [Fact]
    public async Task Broker_that_is_down_is_probed_by_one_message_at_a_time()
    {
        var hanging = new TaskCompletionSource<SendOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        var failures = 0;
        Sender.Script = (_, _) => Interlocked.Increment(ref failures) == 1 ? Task.FromResult(SendOutcome.TransportFailed(Error)) : hanging.Task;
        Database.AddDue();
        _loop.Start();
        await Eventually.BecomesAsync(() => Logs.Count(208) == 1, "the outage is noticed");
        for (var message = 0; message < 10; message++)
            Database.AddDue();
        await Eventually.BecomesAsync(() => Sender.Started == 2, "a probe is under way");

        // The probe hangs; what comes now must not follow it.
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased(), Database.AddLeased());
        await StaysAsync(() => Sender.Started == 2, turns: 20);

        hanging.SetResult(SendOutcome.Confirmed);
        await Eventually.BecomesAsync(() => Logs.Count(209) == 1, "the broker is back");
        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "claim_count = 0 and visible_at <= unixepoch('subsec') * 1000") == 0, "the rest is claimed");
    }

    [Fact]
    public async Task Message_that_always_breaks_the_channel_is_given_up_and_delays_nobody()
    {
        _loop.Options.MaxAttempts = 3;
        var poison = Database.AddDue();
        Sender.Script = (envelope, _) => Task.FromResult(envelope.MessageId == poison.MessageId ? SendOutcome.TransportFailed(Error) : SendOutcome.Confirmed);
        _loop.Start();

        var others = 0;
        await Eventually.BecomesAsync(
            () =>
            {
                Database.AddDue();
                others++;
                return Database.DeadLetters == 1;
            },
            "the message that fails while others succeed is given up");

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().HaveCount(others).And.OnlyHaveUniqueItems();
        Database.Count("outbox_dead_letter", $"message_id = {SqliteDatabase.Text(poison.MessageId)} and reason = 'Refused' and attempts = 3").Should().Be(1);
    }

    [Fact]
    public async Task Sender_that_hangs_and_ignores_its_token_does_not_hold_the_others()
    {
        _loop.Options.SendTimeout = TimeSpan.FromMilliseconds(100);
        var stuck = Database.AddDue();
        var never = new TaskCompletionSource<SendOutcome>();
        Sender.Script = (envelope, _) => envelope.MessageId == stuck.MessageId ? never.Task : Task.FromResult(SendOutcome.Confirmed);
        for (var message = 0; message < 10; message++)
            Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.OutboxRows == 1, "the others are delivered");
        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "last_error like '%TimeoutException%'") == 1, "the send that hung counts as unknown");
        Database.Read<long>("select id from outbox_message").Should().Be(stuck.Id);
    }

    [Fact]
    public async Task Sends_that_never_return_give_their_places_back_and_count_as_one_outage()
    {
        const int Stuck = 50;
        _loop.Options.SendTimeout = TimeSpan.FromMilliseconds(200);
        var hanging = true;
        var never = new TaskCompletionSource<SendOutcome>();
        Sender.Script = (_, _) => Volatile.Read(ref hanging) ? never.Task : Task.FromResult(SendOutcome.Confirmed);
        for (var message = 0; message < Stuck; message++)
            Database.AddDue();
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started > LoopHarness.Window, "all places were taken, and given back");
        var late = Database.AddLeased();
        _loop.Offer(CommitCertainty.Proven, late);
        Database.Count("outbox_message", "attempts > 0").Should().Be(0);
        Volatile.Write(ref hanging, false);

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().HaveCount(Stuck + 1).And.OnlyHaveUniqueItems().And.Contain(late.MessageId);
        Logs.Count(208).Should().Be(1);
        Logs.Count(206).Should().Be(0);
        Database.DeadLetters.Should().Be(0);
        await _loop.StopAsync();
    }

    [Fact]
    public async Task Stop_ends_though_the_database_driver_hangs_in_spite_of_its_token()
    {
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());
        Sender.Script = (_, _) =>
        {
            Database.Hangs = true;
            return Task.FromResult(SendOutcome.Confirmed);
        };
        _loop.Start();
        await Eventually.BecomesAsync(() => Database.Hanging > 0, "the driver hangs");

        var stopped = _loop.StopAsync();
        _loop.Abort();
        await stopped;

        Database.OutboxRows.Should().Be(1);
        Logs.Count(211).Should().Be(1);
        Logs.Count(403).Should().Be(0, "a database that hangs has refused nothing");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task What_is_proven_is_sent_before_and_after_a_claim_began_to_hang(bool before)
    {
        Database.Hangs = true;
        var envelope = Database.AddLeased();
        if (before)
            _loop.Offer(CommitCertainty.Proven, envelope);
        _loop.Start();
        try
        {
            await Eventually.BecomesAsync(() => Database.Hanging > 0, "the driver hangs");
            if (!before)
                _loop.Offer(CommitCertainty.Proven, envelope);
            await Eventually.BecomesAsync(() => Sender.Started == 1, "the envelope is sent");
        }
        finally
        {
            _loop.StopClaiming();
            _loop.HandOff.Close();
            _loop.Abort();
        }
    }

    [Fact]
    public async Task Dead_letter_is_reported_when_there_is_one()
    {
        (_loop.Options.Lease, _loop.Options.SendTimeout) = ShortLease;
        var row = Database.AddDue();
        Sender.Script = (_, _) =>
        {
            // Meanwhile another process has claimed it: what this one decides is void.
            Database.Execute($"update outbox_message set visible_at = visible_at + 3600000 where id = {row.Id}");
            return Task.FromResult(SendOutcome.Corrupt(Error));
        };
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.SendsOf(row) == 1, "it is sent");
        await _loop.StopAsync();

        (Database.OutboxRows, Database.DeadLetters).Should().Be((1, 0));
        _loop.Logs.Count(207).Should().Be(0);
        _loop.Metrics.Sum("outboxbus.dead_lettered").Should().Be(0);
    }

    [Fact]
    public async Task Unknown_type_is_no_failed_send()
    {
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.UnknownType(Error));
        Database.AddDue();
        _loop.Start();

        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "claim_count = 0 and last_error is not null") == 1, "the row waits");
        await _loop.StopAsync();

        _loop.Metrics.Sum("outboxbus.retried").Should().Be(0);
    }

    [Fact]
    public async Task Id_that_another_tool_wrote_in_small_letters_is_settled_like_any_other()
    {
        var row = Database.AddDue();
        Database.Execute($"update outbox_message set message_id = lower(message_id) where id = {row.Id}");
        _loop.Start();

        await Eventually.BecomesAsync(() => Database.OutboxRows == 0, "the row is deleted");

        Sender.SendsOf(row).Should().Be(1);
    }

    [Fact]
    public async Task Memory_stays_bounded_while_the_broker_is_down_under_load()
    {
        const int Messages = 20_000;
        const int Commit = 50;
        _loop.Options.HandOffMessages = 1000;
        var up = false;
        Sender.Script = (_, _) => Task.FromResult(Volatile.Read(ref up) ? SendOutcome.Confirmed : SendOutcome.TransportFailed(Error));
        Database.AddDue();
        _loop.Start();
        await Eventually.BecomesAsync(() => Logs.Count(208) == 1, "the outage is noticed");

        var most = 0;
        for (var commit = 0; commit < Messages / Commit; commit++)
        {
            _loop.Offer(CommitCertainty.Proven, Database.AddManyLeased(Commit, bodyBytes: 2048));
            most = Math.Max(most, _loop.HandOff.Count);
        }

        most.Should().BeGreaterThan(900).And.BeLessThanOrEqualTo(1000);
        Volatile.Write(ref up, true);
        // The leases of what the hand-off could not hold end.
        Database.Execute("update outbox_message set visible_at = 0");

        await OutboxIsEmptyAsync();
        _loop.HandOff.Count.Should().Be(0);
        Sender.Confirmed.Distinct().Should().HaveCount(Messages + 1);
        Logs.Count(206).Should().Be(0, "an outage costs no attempt");
        Database.DeadLetters.Should().Be(0);
    }

    [Fact]
    public async Task Sender_that_throws_is_taken_for_a_transport_that_failed()
    {
        var calls = 0;
        Sender.Script = (_, _) => Interlocked.Increment(ref calls) == 1 ? throw Error : Task.FromResult(SendOutcome.Confirmed);
        Database.AddDue();

        _loop.Start();

        await OutboxIsEmptyAsync();
        Logs.Count(208).Should().Be(1);
        Database.DeadLetters.Should().Be(0);
    }

    [Fact]
    public async Task Message_of_an_unknown_type_waits_with_a_warning()
    {
        _loop.Options.MaxAttempts = 1;
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.UnknownType(Error));
        Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "claim_count = 0 and last_error is not null") == 1, "the row waits");
        Database.Count("outbox_message", "attempts = 0 and visible_at > created_at + 20 * 1000").Should().Be(1);
        Logs.Messages.Should().ContainSingle(message => message.EventId == 210 && message.Level == LogLevel.Warning);
    }

    [Fact]
    public async Task Thousands_of_messages_of_one_unknown_type_are_worth_one_warning()
    {
        const int Rows = 10_000;
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.UnknownType(Error));
        Database.AddDue();
        Database.Execute($"""
            insert into outbox_message (bus, visible_at, message_id, message_type, content_type, body)
            select bus, 0, {SqliteDatabase.NewId}, message_type, content_type, body
            from outbox_message, (with recursive n(i) as (select 1 union all select i + 1 from n where i < {Rows - 1}) select i from n)
            """);
        Database.AddDue(envelope => envelope.MessageType = "urn:message:Test:Other");
        var known = Database.AddDue(envelope => envelope.MessageType = "urn:message:Test:Known");
        Sender.Script = (envelope, _) => Task.FromResult(envelope.MessageType == known.MessageType ? SendOutcome.Confirmed : SendOutcome.UnknownType(Error));

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "last_error is not null") == Rows + 1, "all have been met");
        await Eventually.BecomesAsync(() => Database.OutboxRows == Rows + 1, "the known one is delivered");
        Logs.Count(210).Should().Be(2);
        Database.Count("outbox_message", "attempts > 0").Should().Be(0);
    }

    [Fact]
    public async Task Delayed_message_stored_by_this_process_leaves_when_due_and_not_with_the_next_poll()
    {
        _loop.Options.PollInterval = TimeSpan.FromMinutes(5);
        var known = Database.AddDue();
        _loop.Start();
        await OutboxIsEmptyAsync();

        var delayed = Database.AddDelayed(TimeSpan.FromMilliseconds(300));
        _loop.Offer(CommitCertainty.Proven, delayed);

        await OutboxIsEmptyAsync();
        Sender.Confirmed.Should().Equal(known.MessageId, delayed.MessageId);
        Database.Faults.Calls(nameof(AdjustableDialect.Claim)).Should().BeLessThanOrEqualTo(3, "one at the start, one when it is due");
    }

    [Fact]
    public async Task Row_whose_very_keys_cannot_be_read_is_reported_and_holds_up_nobody()
    {
        var broken = Database.AddDue();
        Database.Execute($"update outbox_message set message_id = 'no id' where id = {broken.Id}");
        for (var message = 0; message < 5; message++)
            Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.OutboxRows == 1, "the others are delivered");
        Database.Read<long>("select id from outbox_message").Should().Be(broken.Id);
        Logs.Messages.Should().ContainSingle(message => message.EventId == 407 && message.Text.Contains($"id {broken.Id}"));
        Logs.Count(406).Should().Be(0);
    }

    [Fact]
    public async Task Corrupt_row_is_a_dead_letter_at_once()
    {
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.Corrupt(Error));
        var envelope = Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.DeadLetters == 1, "the row is a dead letter");
        Database.Read<string>("select reason from outbox_dead_letter").Should().Be(nameof(DeadLetterReason.Corrupt));
        Sender.SendsOf(envelope).Should().Be(1);
    }

    [Fact]
    public async Task Expired_message_is_a_dead_letter_and_not_sent()
    {
        Database.AddDue(envelope => envelope.ExpiresAt = DateTime.UtcNow.AddMinutes(-1));

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.DeadLetters == 1, "the message is a dead letter");
        Database.Read<string>("select reason from outbox_dead_letter").Should().Be(nameof(DeadLetterReason.Expired));
        Sender.Started.Should().Be(0);
    }

    [Fact]
    public async Task Rows_claimed_three_times_without_an_outcome_are_sent_one_at_a_time()
    {
        var answer = new SemaphoreSlim(0);
        Sender.Script = async (_, cancellationToken) =>
        {
            await answer.WaitAsync(cancellationToken);
            return SendOutcome.Confirmed;
        };
        (_loop.Options.Lease, _loop.Options.SendTimeout) = ShortLease;
        for (var row = 0; row < 3; row++)
            Database.AddDue(envelope => envelope.ClaimCount = 2);
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started == 1, "the first is under way");
        await Eventually.BecomesAsync(() => Database.Faults.Calls(nameof(AdjustableDialect.Reschedule)) > 0, "the others are put back");

        await StaysAsync(() => Sender.Started == 1, turns: 10);
        answer.Release(3);

        await OutboxIsEmptyAsync();
        Sender.MostUnderWay.Should().Be(1);
        Sender.Confirmed.Should().HaveCount(3);
        Database.DeadLetters.Should().Be(0);
    }

    [Fact]
    public async Task Row_that_was_sent_alone_three_times_without_an_outcome_is_a_dead_letter()
    {
        Database.AddDue(envelope => envelope.ClaimCount = 3000);

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.DeadLetters == 1, "the row is a dead letter");
        Database.Read<string>("select reason from outbox_dead_letter").Should().Be(nameof(DeadLetterReason.NoOutcome));
        Sender.Started.Should().Be(0);
    }

    [Fact]
    public async Task Loop_that_has_just_started_puts_back_rows_that_processes_died_with()
    {
        Database.AddDue(envelope => envelope.ClaimCount = 2);

        _loop.Start();

        await Eventually.BecomesAsync(() => Database.Faults.Calls(nameof(AdjustableDialect.Reschedule)) > 0, "the row is put back");
        await _loop.StopAsync();
        Sender.Started.Should().Be(0);
        Database.Count("outbox_message", "claim_count = 2").Should().Be(1);
    }

    [Fact]
    public async Task Row_is_marked_before_it_is_sent_alone_so_that_others_never_look_guilty()
    {
        var claims = new ConcurrentBag<long>();
        Sender.Script = (envelope, _) =>
        {
            claims.Add(Database.Read<long>($"select claim_count from outbox_message where id = {envelope.Id}"));
            return Task.FromResult(SendOutcome.Confirmed);
        };
        (_loop.Options.Lease, _loop.Options.SendTimeout) = ShortLease;
        Database.AddDue(envelope => envelope.ClaimCount = 2);
        Database.AddDue(envelope => envelope.ClaimCount = 2);

        _loop.Start();

        await OutboxIsEmptyAsync();
        claims.Should().Equal(1000, 1000);
    }

    [Fact]
    public async Task Confirmed_messages_are_deleted_when_the_database_is_back_and_not_sent_again()
    {
        Database.Faults.Before = statement => ThrowOn(statement, nameof(AdjustableDialect.Complete));
        var envelope = Database.AddLeased();
        _loop.Offer(CommitCertainty.Proven, envelope);
        _loop.Start();
        await Eventually.BecomesAsync(() => Logs.Count(401) == 1, "the delete has failed");

        // Its lease runs out meanwhile; nothing is claimed that may be confirmed already.
        Database.Execute("update outbox_message set visible_at = 0");
        await StaysAsync(() => Database.Count("outbox_message", "claim_count = 0") == 1, turns: 10);
        Database.Faults.Before = null;

        await OutboxIsEmptyAsync();
        await _loop.StopAsync();
        Sender.SendsOf(envelope).Should().Be(1);
        Logs.Count(401).Should().Be(1);
        Logs.Count(402).Should().Be(1);
    }

    [Fact]
    public async Task Outcomes_are_kept_when_no_connection_can_be_had_for_whatever_reason()
    {
        var envelope = Database.AddLeased();
        Sender.Script = (_, _) =>
        {
            // Such as a password provider that cannot be asked.
            Database.Down = new InvalidOperationException("No password today.");
            return Task.FromResult(SendOutcome.Confirmed);
        };
        _loop.Offer(CommitCertainty.Proven, envelope);
        _loop.Start();
        await Eventually.BecomesAsync(() => Database.Opens >= 3, "the database has been asked again");

        Database.Down = null;

        await OutboxIsEmptyAsync();
        await _loop.StopAsync();
        Sender.SendsOf(envelope).Should().Be(1);
        Logs.Messages.Select(message => message.EventId).Where(id => id >= 400).Should().Equal(401, 402);
    }

    [Fact]
    public async Task Outage_that_claims_hand_offs_and_outcomes_run_into_has_one_line()
    {
        var sent = new TaskCompletionSource<SendOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        Sender.Script = (_, _) => sent.Task;
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started == 1, "a message is in flight");
        Database.Down = new InvalidOperationException("The server is gone.");
        await Eventually.BecomesAsync(() => Logs.Count(401) == 1, "a claim has failed");

        // Each hand-off says that somebody has committed, and is worth a try of its own.
        for (var commit = 0; commit < 20; commit++)
        {
            var opens = Database.Opens;
            _loop.Offer(CommitCertainty.Unverified, Database.AddLeased());
            await Eventually.BecomesAsync(() => Database.Opens > opens, "the database is asked");
        }

        sent.SetResult(SendOutcome.Confirmed);
        await Eventually.BecomesAsync(() => Sender.Confirmed.Count == 1, "an outcome waits to be written");
        Database.Down = null;
        _loop.Offer(CommitCertainty.Unverified, Database.AddLeased());

        await Eventually.BecomesAsync(() => Database.OutboxRows == 20, "what was not verified is left to its lease, the rest is delivered");
        Logs.Messages.Select(message => message.EventId).Where(id => id >= 400).Should().Equal(401, 402);
    }

    [Fact]
    public async Task Statement_that_the_database_refuses_is_reported_once_and_not_as_an_outage()
    {
        Database.Faults.Before = statement =>
        {
            if (statement == nameof(AdjustableDialect.Claim))
                throw new InvalidOperationException("No claims for you.");
        };
        _loop.Start();
        for (var message = 0; message < 20; message++)
            _loop.Offer(CommitCertainty.Unverified, Database.AddLeased());
        await Eventually.BecomesAsync(() => Sender.Confirmed.Count == 20, "what is handed off is delivered all the same");
        await Eventually.BecomesAsync(() => Database.Faults.Calls(nameof(AdjustableDialect.Claim)) >= 3, "the claim was tried again");

        Logs.Messages.Select(message => message.EventId).Where(id => id >= 400).Should().Equal(406);
    }

    [Fact]
    public async Task Verdict_that_the_database_refuses_does_not_hold_up_the_others()
    {
        _loop.Options.MaxAttempts = 1;
        Sender.Script = (envelope, _) => Task.FromResult(envelope.MessageType.EndsWith("Refused", StringComparison.Ordinal) ? SendOutcome.Refused(Error) : SendOutcome.Confirmed);
        Database.Faults.Before = statement =>
        {
            if (statement == nameof(AdjustableDialect.Bury))
                throw new InvalidOperationException("No dead letters here.");
        };
        Database.AddDue(envelope => envelope.MessageType = "urn:message:Test:Refused");
        for (var row = 0; row < 5; row++)
            Database.AddDue();

        _loop.Start();

        await Eventually.BecomesAsync(() => Logs.Count(405) == 1, "the refused verdict is given up");
        await Eventually.BecomesAsync(() => Database.OutboxRows == 1, "the others are settled");
    }

    [Fact]
    public async Task Refusal_of_a_message_claimed_again_meanwhile_reaches_its_row()
    {
        _loop.Options.MinBackoff = _loop.Options.MaxBackoff = TimeSpan.FromHours(1);
        var answer = new TaskCompletionSource<SendOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        Sender.Script = (_, _) => answer.Task;
        var envelope = Database.AddDue();
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started == 1, "the message is under way");
        Database.Execute("update outbox_message set visible_at = 0");
        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "claim_count = 2") == 1, "the row is claimed again");

        answer.SetResult(SendOutcome.Refused(Error));

        await Eventually.BecomesAsync(() => Database.Count("outbox_message", "attempts = 1 and claim_count = 0") == 1, "the refusal is in the row");
        Sender.SendsOf(envelope).Should().Be(1);
    }

    [Fact]
    public async Task Database_that_is_down_is_reported_once_and_waited_for()
    {
        Database.Down = new InvalidOperationException("The server is gone.");
        _loop.Start();
        await Eventually.BecomesAsync(() => Logs.Count(401) == 1, "the failure is reported");

        Database.Down = null;
        Database.AddDue();

        await OutboxIsEmptyAsync();
        Logs.Count(401).Should().Be(1);
        Logs.Count(402).Should().Be(1);
    }

    [Fact]
    public async Task Stop_sends_what_was_handed_off_and_waits_for_what_is_in_flight_but_claims_no_more()
    {
        var answer = new TaskCompletionSource<SendOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        Sender.Script = (_, _) => answer.Task;
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started == 1, "a message is in flight");

        _loop.StopClaiming();
        var handedOffLate = Database.AddLeased();
        _loop.Offer(CommitCertainty.Proven, handedOffLate);
        var leftForOthers = Database.AddDue();
        var stopped = _loop.StopAsync();
        await Eventually.BecomesAsync(() => Sender.Started == 2, "what consumers published while the host stops is sent too");
        stopped.IsCompleted.Should().BeFalse();
        answer.SetResult(SendOutcome.Confirmed);
        await stopped;

        Sender.Confirmed.Should().HaveCount(2).And.Contain(handedOffLate.MessageId);
        Database.OutboxRows.Should().Be(1);
        Database.Read<long>("select id from outbox_message where claim_count = 0").Should().Be(leftForOthers.Id);
        Logs.Count(211).Should().Be(0);
    }

    [Fact]
    public async Task Stop_with_a_send_that_hangs_ends_when_aborted_and_leaves_the_row()
    {
        var never = new TaskCompletionSource<SendOutcome>();
        Sender.Script = (_, _) => never.Task;
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());
        _loop.Start();
        await Eventually.BecomesAsync(() => Sender.Started == 1, "the message is in flight");
        var stopped = _loop.StopAsync();

        _loop.Abort();
        await stopped;

        Database.OutboxRows.Should().Be(1);
        Logs.Count(211).Should().Be(1);
    }

    [Fact]
    public async Task Stop_during_an_outage_leaves_the_hand_offs_to_their_leases()
    {
        Sender.Script = (_, _) => Task.FromResult(SendOutcome.TransportFailed(Error));
        _loop.Options.MinOutagePause = _loop.Options.MaxOutagePause = TimeSpan.FromHours(1);
        Database.AddDue();
        _loop.Start();
        await Eventually.BecomesAsync(() => Logs.Count(208) == 1, "the outage is noticed");
        _loop.Offer(CommitCertainty.Proven, Database.AddLeased());

        await _loop.StopAsync();

        Database.OutboxRows.Should().Be(2);
        Sender.Started.Should().Be(1);
    }

    [Fact]
    public async Task Loop_rests_while_the_host_waits_for_consumers_to_finish()
    {
        _loop.Options.PollInterval = TimeSpan.FromHours(1);
        _loop.StopClaiming();

        var turn = _loop.TurnAsync();

        turn.IsCompleted.Should().BeFalse();
        _loop.HandOff.Close();
        await Eventually.CompletesAsync(turn);
    }

    [Fact]
    public async Task Logs_never_show_what_a_message_contains()
    {
        _loop.Options.MaxAttempts = 2;
        var kinds = new Queue<SendOutcome>(
        [
            SendOutcome.TransportFailed(Error), SendOutcome.Refused(Error), SendOutcome.UnknownType(new InvalidOperationException("An unknown type.")), SendOutcome.Confirmed,
            SendOutcome.Refused(Error), SendOutcome.Corrupt(Error), SendOutcome.Refused(Error), SendOutcome.TransportFailed(Error),
        ]);
        Sender.Script = (_, _) =>
        {
            lock (kinds)
                return Task.FromResult(kinds.TryDequeue(out var outcome) ? outcome : SendOutcome.Confirmed);
        };
        for (var message = 0; message < 6; message++)
        {
            Database.AddDue(envelope =>
            {
                envelope.Body = "canary-body"u8.ToArray();
                envelope.Headers = """{"password":"canary-header"}""";
                envelope.Properties = """{"sourceAddress":"amqp://canary-user:canary-password@host/"}""";
                envelope.Destination = "rabbitmq://canary-user:canary-password@host/queue";
                if (envelope.MessageId.ToByteArray()[0] % 2 == 0)
                    envelope.OrderingKey = "canary-key";
            });
        }

        Database.AddDue(envelope =>
        {
            envelope.Body = "canary-body"u8.ToArray();
            envelope.ExpiresAt = DateTime.UtcNow.AddMinutes(-1);
        });

        _loop.Start();
        await Eventually.BecomesAsync(
            () => Database.Count("outbox_message", "last_error not like '%unknown%' or last_error is null") == 0,
            "only the message of an unknown type waits");
        await _loop.StopAsync();

        Logs.Messages.Select(message => message.EventId).Should().Contain([204, 205, 206, 207, 208, 209, 210]);
        Logs.Messages.Should().NotContain(message => message.Everything.Contains("canary", StringComparison.Ordinal));
    }

    private Task OutboxIsEmptyAsync() => Eventually.BecomesAsync(() => Database.OutboxRows == 0, "the outbox is empty");

    /// <summary>Lets the loop go round several times and checks that the condition holds all the while.</summary>
    private async Task StaysAsync(Func<bool> condition, int turns)
    {
        for (var turn = 0; turn < turns; turn++)
        {
            _loop.WakeUp.Set();
            // Round trips to the database are what the loop needs for a turn, too.
            _ = Database.OutboxRows;
            await Task.Yield();
            condition().Should().BeTrue();
        }
    }

    private static void ThrowOn(string statement, string failing)
    {
        if (statement == failing)
            throw new SqliteException("The file is locked.", SqliteBusy);
    }
}
