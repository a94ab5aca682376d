using FluentAssertions;
using Microsoft.Extensions.Logging;
using OutboxBus.Publishing;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Publishing;

public sealed class UnsavedMessageGuardTests : IDisposable
{
    private readonly RecordedMetrics _metrics = new();
    private readonly RecordedLogs<UnsavedMessageGuard> _logs = new();
    private readonly SqliteDatabase _database = new();
    private readonly FakeUnitOfWork _unit;

    public UnsavedMessageGuardTests() => _unit = new FakeUnitOfWork(_database);

    [Fact]
    public void Scope_that_published_nothing_ends_in_silence()
    {
        Guard(UnsavedMessages.Throw, unit: null).Dispose();
        Guard(UnsavedMessages.Throw, _unit).Dispose();

        _logs.Messages.Should().BeEmpty();
        _metrics.All.Should().BeEmpty();
    }

    [Fact]
    public void Lost_messages_are_logged_as_an_error_and_counted()
    {
        PublishTwo();

        Guard(UnsavedMessages.Log, _unit).Dispose();

        var logged = _logs.Messages.Should().ContainSingle().Which;
        logged.Level.Should().Be(LogLevel.Error);
        logged.Text.Should().Contain("2 captured message(s)").And.Contain("urn:message:Test:Happened");
        _metrics.Sum("outboxbus.unsaved").Should().Be(2);
    }

    [Fact]
    public void Lost_messages_throw_where_asked_for()
    {
        PublishTwo();

        Guard(UnsavedMessages.Throw, _unit).Invoking(guard => guard.Dispose()).Should().Throw<OutboxBusException>().WithMessage("2 captured*urn:message:Test:Happened*");
        _logs.Count(101).Should().Be(1);
        _metrics.Sum("outboxbus.unsaved").Should().Be(2);
    }

    [Fact]
    public void Lost_messages_are_counted_even_when_allowed()
    {
        PublishTwo();

        Guard(UnsavedMessages.Allow, _unit).Dispose();

        _logs.Messages.Should().BeEmpty();
        _metrics.Sum("outboxbus.unsaved").Should().Be(2);
    }

    public void Dispose()
    {
        _metrics.Dispose();
        _database.Dispose();
    }

    private void PublishTwo()
    {
        _unit.Append(SqliteDatabase.NewEnvelope());
        _unit.Append(SqliteDatabase.NewEnvelope());
    }

    private UnsavedMessageGuard Guard(UnsavedMessages unsaved, IUnitOfWork? unit)
        => new(new Source(unit), new PublishingOptions { Unsaved = unsaved }, _metrics.Metrics, _logs);

    [Fact]
    public void Cancellations_never_saved_are_reported_or_thrown_too()
    {
        _unit.UnsavedCancellations = [Guid.Parse("00000000-0000-0000-0000-0000000000aa")];

        Guard(UnsavedMessages.Log, _unit).Dispose();
        _logs.Count(105).Should().Be(1);
        _logs.Count(101).Should().Be(0);

        var throwing = Guard(UnsavedMessages.Throw, _unit);
        throwing.Invoking(guard => guard.Dispose()).Should().Throw<OutboxBusException>().WithMessage("*1 cancellation(s)*0000000000aa*");
        Guard(UnsavedMessages.Allow, _unit).Dispose();
        _logs.Count(105).Should().Be(2);
    }

    private sealed class Source(IUnitOfWork? unit) : IUnitOfWorkSource
    {
        public IUnitOfWork Current => unit ?? throw new InvalidOperationException("The guard must not be what resolves the unit of work.");

        public IReadOnlyCollection<Envelope> Unsaved => unit?.Unsaved ?? [];

        public IReadOnlyCollection<Guid> UnsavedCancellations => unit?.UnsavedCancellations ?? [];
    }
}
