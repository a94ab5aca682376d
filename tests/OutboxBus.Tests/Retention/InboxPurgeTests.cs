using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Retention;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Retention;

public sealed class InboxPurgeTests : IDisposable
{
    private readonly SqliteDatabase _database = new();
    private readonly RecordedLogs<InboxPurge> _logs = new();
    private readonly RecordedLogs<DatabaseOutage> _outages = new();
    private readonly FakeTimeProvider _time = new();
    private readonly InboxOptions _options = new() { Retention = TimeSpan.FromHours(1), PurgeBatch = 3, PurgeInterval = TimeSpan.FromMinutes(1) };
    private readonly InboxPurge _purge;

    public InboxPurgeTests() => _purge = new InboxPurge(_database, new DatabaseOutage(_database.Key, _time, _outages), _options, _time, _logs);

    private long Records => _database.Count("inbox_message");

    [Fact]
    public async Task Only_records_past_retention_are_deleted()
    {
        Add(minutesAgo: 59);
        Add(minutesAgo: 61);
        Add(minutesAgo: 0);

        await _purge.PurgeAsync(new OutboxStore(_database), CancellationToken.None);

        Records.Should().Be(2);
        _database.Count("inbox_message", "consumer = 'consumed 61 minutes ago'").Should().Be(0);
    }

    [Theory]
    [InlineData(2, 1)]
    [InlineData(3, 2)]
    [InlineData(7, 3)]
    public async Task Backlog_is_deleted_in_batches_until_one_is_not_full(int records, int batches)
    {
        for (var record = 0; record < records; record++)
            Add(minutesAgo: 120);

        await _purge.PurgeAsync(new OutboxStore(_database), CancellationToken.None);

        Records.Should().Be(0);
        _database.Faults.Calls(nameof(AdjustableDialect.PurgeInbox)).Should().Be(batches);
    }

    [Fact]
    public async Task Purge_comes_with_every_interval_and_goes_on_after_an_error()
    {
        Add(minutesAgo: 120);
        _database.Down = new InvalidOperationException("The server is gone.");
        await _purge.StartAsync(CancellationToken.None);
        _logs.Messages.Should().BeEmpty();

        await AdvanceUntilAsync(() => _outages.Count(401) > 0, "the failure is reported");
        Records.Should().Be(1);
        _database.Down = null;
        await AdvanceUntilAsync(() => Records == 0, "the record is purged");

        Add(minutesAgo: 120);
        await AdvanceUntilAsync(() => Records == 0, "the next record is purged");
        await _purge.StopAsync(CancellationToken.None);
        _purge.ExecuteTask!.IsCompletedSuccessfully.Should().BeTrue();
    }

    [Fact]
    public async Task Outage_of_the_database_is_reported_once_however_often_the_purge_meets_it()
    {
        var store = new OutboxStore(_database);
        _database.Down = new InvalidOperationException("The server is gone.");

        for (var purge = 0; purge < 3; purge++)
            await _purge.PurgeAsync(store, CancellationToken.None);
        _database.Down = null;
        for (var purge = 0; purge < 3; purge++)
            await _purge.PurgeAsync(store, CancellationToken.None);

        _outages.Messages.Select(message => message.EventId).Should().Equal(401, 402);
        _logs.Count(502).Should().Be(0);
    }

    [Fact]
    public async Task Purge_that_the_database_refuses_is_reported_once_until_it_has_worked()
    {
        var store = new OutboxStore(_database);
        for (var round = 1; round <= 2; round++)
        {
            _database.Faults.Before = _ => throw new InvalidOperationException("No.");
            for (var purge = 0; purge < 3; purge++)
                await _purge.PurgeAsync(store, CancellationToken.None);
            _database.Faults.Before = null;
            await _purge.PurgeAsync(store, CancellationToken.None);

            _logs.Count(502).Should().Be(round);
        }

        _outages.Messages.Should().BeEmpty();
    }

    [Fact]
    public async Task Stop_does_not_wait_for_a_driver_that_is_deaf_to_its_token()
    {
        _database.Hangs = true;
        await _purge.StartAsync(CancellationToken.None);
        await AdvanceUntilAsync(() => _database.Hanging > 0, "the driver hangs");

        await _purge.StopAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(10));
    }

    public void Dispose()
    {
        _purge.Dispose();
        _database.Dispose();
    }

    private Task AdvanceUntilAsync(Func<bool> condition, string what) => Eventually.BecomesAsync(
        () =>
        {
            _time.Advance(_options.PurgeInterval);
            return condition();
        },
        what);

    private void Add(int minutesAgo) => _database.Execute(
        $"insert into inbox_message (message_id, consumer, consumed_at) values ('{Guid.NewGuid()}', 'consumed {minutesAgo} minutes ago', cast(unixepoch('subsec') * 1000 as integer) - {minutesAgo} * 60000)");
}
