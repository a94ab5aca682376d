using FluentAssertions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Storage;
using OutboxBus.Tests.Fakes;
using Xunit;

namespace OutboxBus.Tests.Storage;

public sealed class DatabaseOutageTests
{
    private static readonly InvalidOperationException Error = new("Gone.");

    private readonly FakeTimeProvider _time = new();
    private readonly RecordedLogs<DatabaseOutage> _logs = new();
    private readonly DatabaseOutage _outage;

    public DatabaseOutageTests() => _outage = new DatabaseOutage("Shop", _time, _logs, new MiddleRandom());

    [Fact]
    public void Outage_has_one_line_and_its_end_another_however_many_notice()
    {
        _outage.Answered();
        for (var outage = 1; outage <= 2; outage++)
        {
            for (var user = 0; user < 5; user++)
                _outage.Failed(Error);
            _outage.IsOn.Should().BeTrue();
            for (var user = 0; user < 5; user++)
                _outage.Answered();
            _outage.IsOn.Should().BeFalse();
        }

        _logs.Messages.Select(message => (message.EventId, message.Level)).Should().Equal(
            (401, LogLevel.Error), (402, LogLevel.Information), (401, LogLevel.Error), (402, LogLevel.Information));
    }

    [Fact]
    public void Pauses_double_from_a_second_to_half_a_minute_and_begin_anew_with_the_next_outage()
    {
        Pauses(9).Should().Equal(1, 1, 2, 4, 8, 16, 30, 30, 30);
        _outage.Answered();
        Pauses(3).Should().Equal(1, 1, 2);
    }

    [Fact]
    public void Pauses_grow_no_faster_if_several_ask()
    {
        _outage.Failed(Error);
        _time.Advance(TimeSpan.FromSeconds(4));

        for (var user = 0; user < 5; user++)
            _outage.Failed(Error).Should().Be(TimeSpan.FromSeconds(4));
    }

    [Fact]
    public void Pauses_vary_so_that_instances_do_not_come_back_in_step()
        => new DatabaseOutage("Shop", _time, _logs, new FixedRandom(1)).Failed(Error).Should().Be(TimeSpan.FromSeconds(1.2));

    private List<double> Pauses(int tries)
    {
        var pauses = new List<double>();
        for (var @try = 0; @try < tries; @try++)
        {
            var pause = _outage.Failed(Error);
            pauses.Add(pause.TotalSeconds);
            _time.Advance(pause);
        }

        return pauses;
    }
}
