using FluentAssertions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using OutboxBus.Diagnostics;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Diagnostics;

public sealed class OutboxHealthCheckTests : IDisposable
{
    private readonly SqliteDatabase _database = new();
    private readonly RecordedMetrics _metrics = new();
    private readonly HealthOptions _options = new() { MaxPending = 2, MaxPendingAge = TimeSpan.FromMinutes(5), MaxDeadLetters = 0 };

    [Fact]
    public async Task Empty_outbox_is_healthy()
    {
        var result = await CheckAsync();

        result.Status.Should().Be(HealthStatus.Healthy);
        result.Data.Should().BeEquivalentTo(new Dictionary<string, object> { ["pending"] = 0L, ["oldestPendingSeconds"] = 0.0, ["deadLetters"] = 0L });
    }

    [Fact]
    public async Task Messages_within_the_limits_are_healthy()
    {
        _database.AddDue();
        _database.AddDue();

        (await CheckAsync()).Status.Should().Be(HealthStatus.Healthy);
    }

    [Fact]
    public async Task Too_many_due_messages_are_degraded()
    {
        for (var message = 0; message < 3; message++)
            _database.AddDue();

        var result = await CheckAsync();

        result.Status.Should().Be(HealthStatus.Degraded);
        result.Description.Should().Contain("more than 2 messages are pending");
        result.Data["pending"].Should().Be(3L);
    }

    [Fact]
    public async Task Old_due_message_is_degraded()
    {
        _database.AddDue();
        _database.Execute("update outbox_message set created_at = created_at - 6 * 60 * 1000");

        var result = await CheckAsync();

        result.Status.Should().Be(HealthStatus.Degraded);
        result.Description.Should().Contain("the oldest pending message has been due for 00:06");
        ((double)result.Data["oldestPendingSeconds"]).Should().BeGreaterThan(359);
    }

    [Fact]
    public async Task Messages_leased_or_of_another_bus_are_not_pending()
    {
        for (var message = 0; message < 3; message++)
        {
            _database.AddLeased();
            _database.AddDue(envelope => envelope.Bus = "other");
        }

        (await CheckAsync()).Status.Should().Be(HealthStatus.Healthy);
    }

    [Fact]
    public async Task Dead_letter_is_degraded()
    {
        AddDeadLetter();

        var result = await CheckAsync();

        result.Status.Should().Be(HealthStatus.Degraded);
        result.Description.Should().Contain("there are dead letters");
    }

    [Fact]
    public async Task All_troubles_are_named_together()
    {
        AddDeadLetter();
        for (var message = 0; message < 3; message++)
            _database.AddDue();
        _database.Execute("update outbox_message set created_at = 0");

        (await CheckAsync()).Description.Should().Contain("oldest pending").And.Contain("messages are pending").And.Contain("dead letters");
    }

    [Fact]
    public async Task Database_that_cannot_be_read_is_unhealthy()
    {
        _database.Down = new InvalidOperationException("Password=canary");

        var result = await CheckAsync();

        result.Status.Should().Be(HealthStatus.Unhealthy);
        result.Description.Should().Be("The outbox of Test cannot be read.");
    }

    [Fact]
    public async Task Last_check_is_what_the_gauges_show()
    {
        _metrics.All.Should().BeEmpty("nothing has been observed yet");
        _database.AddDue();
        AddDeadLetter();

        await CheckAsync();

        _metrics.All.Should().ContainSingle(measured => measured.Instrument == "outboxbus.pending").Which.Value.Should().Be(1);
        _metrics.All.Should().Contain(measured => measured.Instrument == "outboxbus.pending.age" && measured.Unit == "s");
        _metrics.All.Should().Contain(measured => measured.Instrument == "outboxbus.dead_letters" && measured.Value == 1);
    }

    public void Dispose()
    {
        _metrics.Dispose();
        _database.Dispose();
    }

    private Task<HealthCheckResult> CheckAsync()
        => new OutboxHealthCheck("default", _database, _options, _metrics.Metrics).CheckHealthAsync(new HealthCheckContext());

    private void AddDeadLetter() => _database.Execute(
        """
        insert into outbox_dead_letter (outbox_id, kind, bus, attempts, claim_count, seq, message_id, message_type, content_type, body, created_at, reason)
        values (1, 0, 'default', 1, 0, 0, 'id', 'type', 'json', x'00', 0, 'Refused')
        """);
}
