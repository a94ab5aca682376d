using FluentAssertions;
using Microsoft.Data.Sqlite;
using OutboxBus.Consuming;
using OutboxBus.Diagnostics;
using OutboxBus.Storage;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Consuming;

// What holds in either mode; what differs stands below.
public abstract class InboxGateTests : IAsyncLifetime
{
    private protected static readonly InboxKey Key = new(Guid.Parse("6f0a2a3e-9c1c-4a55-8a51-0b7c9d1f2e11"), "stock/ReserveStock");

    private protected readonly SqliteDatabase _database = new();
    private protected readonly RecordedMetrics _metrics = new();
    private protected readonly RecordedLogs<InboxGate> _logs = new();
    private protected readonly FakeUnitOfWork _unit;
    private protected readonly InboxGate _gate;
    private protected int _handled;
    private readonly List<FaultPoint> _reached = [];
    private readonly string[] _begun;

    protected InboxGateTests(InboxMode mode)
    {
        _begun = mode == InboxMode.First ? ["begin", "command"] : ["begin"];
        _database.Execute("create table business (id integer)");
        _unit = new FakeUnitOfWork(_database);
        _gate = new InboxGate(
            _database,
            new InboxOptions { Mode = mode },
            _metrics.Metrics,
            new FaultPoints((point, _) =>
            {
                _reached.Add(point);
                return ValueTask.CompletedTask;
            }),
            TimeProvider.System,
            _logs);
    }

    private protected long BusinessRows => _database.Count("business");

    private protected long InboxRows => _database.Count("inbox_message", $"message_id = {SqliteDatabase.Text(Key.MessageId)} and consumer = 'stock/ReserveStock' and generation = 0");

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        await _unit.DisposeAsync();
        _metrics.Dispose();
        _database.Dispose();
    }

    [Fact]
    public async Task Record_handler_flush_and_commit_are_one_transaction_in_this_order()
    {
        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Consumed);

        _unit.Steps.Should().Equal([.. _begun, "handler", "flush", "commit"]);
        BusinessRows.Should().Be(1);
        InboxRows.Should().Be(1);
        _metrics.Sum("outboxbus.consumed").Should().Be(1);
        _metrics.Sum("outboxbus.duplicates").Should().Be(0);
        _reached.Should().Equal(FaultPoint.AfterConsume);
    }

    [Fact]
    public async Task Other_consumers_and_generations_consume_the_same_message()
    {
        await ConsumeAsync();
        await ConsumeAsync(Key with { Consumer = "billing/SendInvoice" });
        await ConsumeAsync(Key with { Generation = 1 });

        _handled.Should().Be(3);
    }

    [Fact]
    public async Task Exception_of_the_handler_rolls_everything_back_and_comes_through()
    {
        var error = new InvalidOperationException("No stock.");

        var thrown = await Consume(() =>
        {
            _unit.Execute("insert into business values (1)");
            throw error;
        }).Should().ThrowAsync<InvalidOperationException>();

        thrown.Which.Should().BeSameAs(error);
        _unit.Steps.Should().Equal([.. _begun, "handler", "rollback"]);
        BusinessRows.Should().Be(0);
        InboxRows.Should().Be(0);
        _metrics.Sum("outboxbus.consumed").Should().Be(0);
        _reached.Should().BeEmpty();
    }

    [Fact]
    public async Task Message_that_failed_is_consumed_when_it_comes_again()
    {
        await Consume(() => throw new InvalidOperationException()).Should().ThrowAsync<InvalidOperationException>();

        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Consumed);
    }

    [Fact]
    public async Task Failed_flush_rolls_everything_back()
    {
        _unit.FlushError = new InvalidOperationException("A constraint.");

        await Consume(Handle).Should().ThrowAsync<InvalidOperationException>().WithMessage("A constraint.");

        _unit.Steps.Should().EndWith("rollback").And.NotContain("commit");
        BusinessRows.Should().Be(0);
        InboxRows.Should().Be(0);
    }

    [Fact]
    public async Task Commit_whose_answer_got_lost_counts_as_consumed()
    {
        _unit.ErrorAfterCommit = new InvalidOperationException("The connection broke.");

        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Consumed);

        BusinessRows.Should().Be(1);
        _metrics.Sum("outboxbus.consumed").Should().Be(1);
        _logs.Count(302).Should().Be(1);
    }

    [Fact]
    public async Task Commit_that_failed_comes_through()
    {
        _unit.CommitError = new InvalidOperationException("The connection broke.");

        await Consume(Handle).Should().ThrowAsync<InvalidOperationException>().WithMessage("The connection broke.");

        _unit.Steps.Should().EndWith("rollback");
        BusinessRows.Should().Be(0);
        _metrics.Sum("outboxbus.consumed").Should().Be(0);
        _reached.Should().BeEmpty();
    }

    [Fact]
    public async Task Commit_in_doubt_counts_as_failed_so_that_the_message_comes_again()
    {
        _unit.ErrorAfterCommit = new InvalidOperationException("The connection broke.");
        _database.Down = new InvalidOperationException("So did the server.");

        await Consume(Handle).Should().ThrowAsync<InvalidOperationException>().WithMessage("The connection broke.");

        _database.Down = null;
        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Duplicate);
        BusinessRows.Should().Be(1);
    }

    [Fact]
    public async Task Contention_in_the_handler_is_left_to_the_retry_outside()
    {
        await Consume(() => throw new SqliteException("database is locked", 5)).Should().ThrowAsync<SqliteException>();

        _unit.Steps.Should().Equal([.. _begun, "rollback"]);
    }

    [Fact]
    public async Task Operation_is_committed_once_its_marker_first_and_is_no_consumed_message()
    {
        var id = Guid.NewGuid();

        await _gate.CommitOnceAsync(_unit, id, Handle, CancellationToken.None);
        await _gate.CommitOnceAsync(_unit, id, Handle, CancellationToken.None);

        _unit.Steps.Should().Equal("begin", "command", "handler", "flush", "commit", "begin", "command", "rollback");
        _handled.Should().Be(1);
        _database.Count("inbox_message", $"message_id = {SqliteDatabase.Text(id)} and consumer = '$commit'").Should().Be(1);
        _metrics.All.Should().NotContain(measured => measured.Instrument == "outboxbus.consumed" || measured.Instrument == "outboxbus.duplicates");
        _logs.Count(301).Should().Be(0);
        _reached.Should().BeEmpty();
    }

    [Fact]
    public async Task Batch_is_handled_without_the_messages_consumed_before_and_records_the_others_first_in_either_mode()
    {
        await ConsumeAsync();
        _unit.Steps.Clear();
        InboxKey[] batch = [Key with { MessageId = Guid.Parse("00000000-0000-0000-0000-000000000002") }, Key, Key with { MessageId = Guid.Parse("00000000-0000-0000-0000-000000000001") }];
        IReadOnlyCollection<InboxKey> handled = [];

        var outcome = await _gate.ConsumeOnceAsync(
            _unit,
            batch,
            fresh =>
            {
                handled = fresh;
                return Handle();
            },
            CancellationToken.None);

        outcome.Should().Be(ConsumeOutcome.Consumed);
        handled.Should().Equal([batch[0], batch[2]], "the consumer gets them in their own order");
        _unit.Steps.Should().Equal("begin", "command", "handler", "flush", "commit");
        _metrics.Sum("outboxbus.consumed").Should().Be(3);
        _metrics.Sum("outboxbus.duplicates").Should().Be(1);
        _logs.Count(301).Should().Be(1);
    }

    [Fact]
    public async Task Batch_whose_messages_were_all_consumed_before_is_not_handled()
    {
        InboxKey[] batch = [Key, Key with { Generation = 1 }];
        await _gate.ConsumeOnceAsync(_unit, batch, _ => Handle(), CancellationToken.None);

        (await _gate.ConsumeOnceAsync(_unit, batch, _ => Handle(), CancellationToken.None)).Should().Be(ConsumeOutcome.Duplicate);

        _handled.Should().Be(1);
        _metrics.Sum("outboxbus.duplicates").Should().Be(2);
    }

    [Fact]
    public async Task Batch_whose_commit_lost_its_answer_counts_as_consumed()
    {
        _unit.ErrorAfterCommit = new InvalidOperationException("The connection broke.");

        (await _gate.ConsumeOnceAsync(_unit, [Key, Key with { Generation = 1 }], _ => Handle(), CancellationToken.None)).Should().Be(ConsumeOutcome.Consumed);
    }

    [Fact]
    public async Task Batch_that_was_rolled_back_is_not_taken_for_one_that_overlaps_it()
    {
        _unit.CommitError = new InvalidOperationException("It was rolled back.");
        _unit.RolledBack = () => _database.Execute(FormattableString.Invariant(
            $"insert into inbox_message (message_id, consumer, generation) values ({SqliteDatabase.Text(Key.MessageId)}, '{Key.Consumer}', 0)"));

        await _gate.Awaiting(gate => gate.ConsumeOnceAsync(_unit, [Key, Key with { Generation = 1 }], _ => Handle(), CancellationToken.None))
            .Should().ThrowAsync<InvalidOperationException>("nobody has consumed the second message").WithMessage("It was rolled back.");

        BusinessRows.Should().Be(0);
    }

    private protected Task Handle()
    {
        _handled++;
        _unit.Execute("insert into business values (1)");
        return Task.CompletedTask;
    }

    private protected Task<ConsumeOutcome> ConsumeAsync(InboxKey? key = null) => _gate.ConsumeOnceAsync(_unit, [key ?? Key], _ => Handle(), CancellationToken.None);

    private protected Func<Task<ConsumeOutcome>> Consume(Func<Task> handle) => _gate.Awaiting(gate => gate.ConsumeOnceAsync(_unit, [Key], _ => handle(), CancellationToken.None));
}

public sealed class InboxGateFirstTests() : InboxGateTests(InboxMode.First)
{
    [Fact]
    public async Task Record_is_in_the_transaction_before_the_handler_runs()
    {
        var recorded = 0;

        await _gate.ConsumeOnceAsync(
            _unit,
            [Key],
            _ =>
            {
                recorded = _database.Faults.Calls(nameof(AdjustableDialect.RecordConsumed));
                InboxRows.Should().Be(0, "others see the record only with the commit");
                return Task.CompletedTask;
            },
            CancellationToken.None);

        recorded.Should().Be(1);
    }

    [Fact]
    public async Task Duplicate_rolls_back_and_does_not_run_the_handler()
    {
        await ConsumeAsync();
        _unit.Steps.Clear();

        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Duplicate);

        _unit.Steps.Should().Equal("begin", "command", "rollback");
        _handled.Should().Be(1);
        BusinessRows.Should().Be(1);
        _metrics.Sum("outboxbus.duplicates").Should().Be(1);
        _logs.Count(301).Should().Be(1);
    }

    [Fact]
    public async Task Flush_that_wrote_nothing_is_followed_by_a_proof_of_life()
    {
        _unit.FlushWritesRows = false;

        await ConsumeAsync();

        _unit.Steps.Should().Equal("begin", "command", "handler", "flush", "command", "commit");
        _database.Faults.Calls(nameof(SqlDialect.ProbeStatement)).Should().Be(1);
    }

    [Fact]
    public async Task Dead_transaction_is_not_committed()
    {
        _unit.FlushWritesRows = false;
        _database.Faults.Probe = "select nothing from nowhere";

        await Consume(Handle).Should().ThrowAsync<SqliteException>();

        _unit.Steps.Should().EndWith("rollback").And.NotContain("commit");
        BusinessRows.Should().Be(0);
        InboxRows.Should().Be(0);
    }

    [Fact]
    public async Task Copy_that_waited_too_long_for_another_waits_again_and_the_handler_runs_once()
    {
        var waits = 0;
        _database.Faults.Before = statement =>
        {
            if (statement == nameof(AdjustableDialect.RecordConsumed) && waits++ < 2)
                throw new SqliteException("database is locked", 5);
        };

        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Consumed);

        _unit.Steps.Should().Equal("begin", "command", "rollback", "begin", "command", "rollback", "begin", "command", "handler", "flush", "commit");
        _handled.Should().Be(1);
    }

    [Fact]
    public async Task Copy_stops_waiting_when_it_is_cancelled()
    {
        using var cancelled = new CancellationTokenSource();
        _database.Faults.Before = statement =>
        {
            if (statement != nameof(AdjustableDialect.RecordConsumed))
                return;
            cancelled.Cancel();
            throw new SqliteException("database is locked", 5);
        };

        await _gate.Awaiting(gate => gate.ConsumeOnceAsync(_unit, [Key], _ => Handle(), cancelled.Token)).Should().ThrowAsync<SqliteException>();

        _handled.Should().Be(0);
        _unit.Steps.Should().Equal("begin", "command", "rollback");
    }
}

public sealed class InboxGateLastTests() : InboxGateTests(InboxMode.Last)
{
    [Fact]
    public async Task Record_is_written_by_the_flush_alone()
    {
        await ConsumeAsync();

        _database.Faults.Calls(nameof(AdjustableDialect.RecordConsumed)).Should().Be(0);
        _database.Faults.Calls(nameof(SqlDialect.ProbeStatement)).Should().Be(0, "the record proves the transaction alive");
        InboxRows.Should().Be(1);
    }

    [Fact]
    public async Task Duplicate_runs_the_handler_and_rolls_it_back()
    {
        await ConsumeAsync();
        _unit.Steps.Clear();

        (await ConsumeAsync()).Should().Be(ConsumeOutcome.Duplicate);

        _unit.Steps.Should().Equal("begin", "handler", "flush", "rollback");
        _handled.Should().Be(2);
        BusinessRows.Should().Be(1);
        _metrics.Sum("outboxbus.consumed").Should().Be(1);
        _metrics.Sum("outboxbus.duplicates").Should().Be(1);
        _logs.Count(301).Should().Be(1);
    }

    [Fact]
    public async Task Duplicate_whose_handler_fails_because_its_work_is_done_is_a_duplicate()
    {
        await ConsumeAsync();

        (await Consume(() => throw new InvalidOperationException("The order has been placed."))()).Should().Be(ConsumeOutcome.Duplicate);
    }

    [Fact]
    public async Task Error_of_the_handler_comes_through_when_nobody_can_tell_whether_it_is_a_duplicate()
    {
        await Consume(() =>
        {
            _database.Down = new InvalidOperationException("The server is down.");
            throw new InvalidOperationException("No stock.");
        }).Should().ThrowAsync<InvalidOperationException>().WithMessage("No stock.");
    }

    [Fact]
    public async Task Handler_that_was_cancelled_is_not_asked_about()
    {
        using var cancelled = new CancellationTokenSource();

        await _gate.Awaiting(gate => gate.ConsumeOnceAsync(
            _unit,
            [Key],
            _ =>
            {
                cancelled.Cancel();
                throw new OperationCanceledException(cancelled.Token);
            },
            cancelled.Token)).Should().ThrowAsync<OperationCanceledException>();

        _database.Faults.Calls(nameof(AdjustableDialect.RecordConsumed)).Should().Be(0);
    }
}
