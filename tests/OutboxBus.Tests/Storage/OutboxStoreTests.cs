using FluentAssertions;
using Microsoft.Data.Sqlite;
using OutboxBus.Storage;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Storage;

public sealed class OutboxStoreTests : IDisposable
{
    private readonly SqliteDatabase _database = new();
    private readonly OutboxStore _store;

    public OutboxStoreTests() => _store = new OutboxStore(_database);

    [Fact]
    public async Task Claimed_envelope_is_as_it_was_stored()
    {
        var stored = _database.AddDue(envelope =>
        {
            envelope.Body = [0, 255, 10, 13];
            envelope.Destination = "queue:stock";
            envelope.Headers = """{"a":"ü"}""";
            envelope.Properties = "{}";
            envelope.Attempts = 3;
            envelope.ExpiresAt = new DateTime(2100, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        });

        var claimed = (await _store.ClaimAsync("default", 10, TimeSpan.FromMinutes(1), CancellationToken.None)).Should().ContainSingle().Which;

        claimed.Should().BeEquivalentTo(stored, options => options.Excluding(envelope => envelope.VisibleAt).Excluding(envelope => envelope.ClaimCount));
        claimed.ClaimCount.Should().Be(1);
    }

    [Fact]
    public async Task Claims_come_in_the_order_of_ids_and_only_once()
    {
        foreach (var _ in Enumerable.Range(0, 5))
            _database.AddDue();
        _database.AddDue(envelope => envelope.Bus = "other");

        var first = await _store.ClaimAsync("default", 3, TimeSpan.FromMinutes(1), CancellationToken.None);
        var second = await _store.ClaimAsync("default", 3, TimeSpan.FromMinutes(1), CancellationToken.None);

        first.Select(envelope => envelope.Id).Should().Equal(1, 2, 3);
        second.Select(envelope => envelope.Id).Should().Equal(4, 5);
    }

    [Fact]
    public async Task Verification_finds_only_committed_rows_as_they_were_inserted()
    {
        var committed = _database.AddLeased();
        var rolledBack = SqliteDatabase.NewEnvelope();
        rolledBack.Id = 100;
        var reissued = _database.AddLeased();
        reissued.MessageId = Guid.NewGuid();
        var claimedByOthers = _database.AddLeased();
        claimedByOthers.VisibleAt += TimeSpan.FromMilliseconds(1);

        var found = await _store.VerifyAsync([committed, rolledBack, reissued, claimedByOthers], CancellationToken.None);

        found.Should().Equal(committed);
    }

    [Fact]
    public async Task Missing_table_is_reported_with_the_remedy()
    {
        await _store.CheckSchemaAsync(CancellationToken.None);
        _database.Execute("drop table inbox_message");

        (await _store.Awaiting(store => store.CheckSchemaAsync(CancellationToken.None)).Should().ThrowAsync<OutboxBusException>())
            .Which.Message.Should().Contain("SQLite").And.Contain("inbox_message").And.Contain("AddOutboxBus(Database)");
    }

    [Fact]
    public void Errors_are_recognised_through_the_layers_that_wrap_them()
        => _store.Classify(new InvalidOperationException("saving", new AggregateException(new SqliteException("busy", 5)))).Should().Be(DatabaseError.Contention);

    public void Dispose() => _database.Dispose();
}
