using FluentAssertions;
using OutboxBus.Publishing;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Publishing;

public sealed class PendingEnvelopesTests
{
    private readonly PendingEnvelopes _pending = new();

    [Fact]
    public void Positions_count_on_across_flushes()
    {
        _pending.Add(SqliteDatabase.NewEnvelope());
        _pending.Add(SqliteDatabase.NewEnvelope());
        var first = _pending.Take();
        _pending.Add(SqliteDatabase.NewEnvelope());

        first.Select(envelope => envelope.Seq).Should().Equal(0, 1);
        _pending.Take().Select(envelope => envelope.Seq).Should().Equal(2);
        _pending.Take().Should().BeEmpty();
    }

    [Fact]
    public void Parallel_publishes_lose_nothing_and_share_no_position()
    {
        Parallel.For(0, 1000, new ParallelOptions { MaxDegreeOfParallelism = 8 }, _ => _pending.Add(SqliteDatabase.NewEnvelope()));

        _pending.Take().Select(envelope => envelope.Seq).Should().Equal(Enumerable.Range(0, 1000));
    }

    [Fact]
    public void Publish_after_the_seal_is_an_error_not_a_loss()
    {
        _pending.TrySeal().Should().BeTrue();

        _pending.Invoking(pending => pending.Add(SqliteDatabase.NewEnvelope())).Should().Throw<OutboxBusException>().WithMessage("*urn:message:Test:Happened*sealed*");
        _pending.Snapshot().Should().BeEmpty();
    }

    [Fact]
    public void What_is_cancelled_is_forgotten_and_no_other()
    {
        var (token, other) = (Guid.NewGuid(), Guid.NewGuid());
        foreach (var scheduled in (Guid?[])[token, null, other, token])
        {
            var envelope = SqliteDatabase.NewEnvelope();
            envelope.ScheduleToken = scheduled;
            _pending.Add(envelope);
        }

        _pending.RemoveScheduled(token);

        _pending.Take().Select(envelope => (envelope.Seq, envelope.ScheduleToken)).Should().Equal((1, null), (2, other));
    }

    [Fact]
    public void Cancel_after_the_seal_is_an_error_not_a_loss()
    {
        _pending.TrySeal().Should().BeTrue();

        _pending.Invoking(pending => pending.RemoveScheduled(Guid.NewGuid())).Should().Throw<OutboxBusException>().WithMessage("A scheduled message was cancelled after*sealed*");
    }

    [Fact]
    public void What_is_pending_cannot_be_sealed_in()
    {
        _pending.Add(SqliteDatabase.NewEnvelope());

        _pending.TrySeal().Should().BeFalse();
        _pending.Add(SqliteDatabase.NewEnvelope());

        _pending.Take().Should().HaveCount(2);
        _pending.TrySeal().Should().BeTrue();
    }

    [Fact]
    public void Restart_keeps_what_is_given_and_opens_the_seal()
    {
        var kept = SqliteDatabase.NewEnvelope();
        _pending.Add(kept);
        var before = _pending.Snapshot();
        _pending.Add(SqliteDatabase.NewEnvelope());
        _pending.Take();
        _pending.TrySeal().Should().BeTrue();

        _pending.Restart(before);
        _pending.Add(SqliteDatabase.NewEnvelope());

        _pending.Snapshot().Select(envelope => envelope.Seq).Should().Equal(0, 1);
        _pending.Snapshot()[0].Should().BeSameAs(kept);
    }
}
