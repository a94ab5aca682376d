using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class WakeUpTests
{
    private static readonly TimeSpan Long = TimeSpan.FromDays(1);

    private readonly FakeTimeProvider _time = new();
    private readonly WakeUp _wakeUp;

    public WakeUpTests() => _wakeUp = new WakeUp(_time);

    [Fact]
    public void Signal_between_looking_for_work_and_waiting_is_not_lost()
    {
        _wakeUp.Reset();
        _wakeUp.Set();

        Wait().IsCompleted.Should().BeTrue();
    }

    [Fact]
    public async Task Signal_ends_a_wait()
    {
        var waiting = Wait();
        waiting.IsCompleted.Should().BeFalse();

        _wakeUp.Set();

        await Eventually.CompletesAsync(waiting);
    }

    [Fact]
    public void Reset_takes_back_a_signal()
    {
        _wakeUp.Set();
        _wakeUp.Reset();

        Wait().IsCompleted.Should().BeFalse();
    }

    [Fact]
    public async Task Wait_ends_at_its_timeout_on_the_clock_it_was_given()
    {
        var waiting = Wait();
        _time.Advance(Long - TimeSpan.FromTicks(1));
        waiting.IsCompleted.Should().BeFalse();

        _time.Advance(TimeSpan.FromTicks(1));

        await Eventually.CompletesAsync(waiting);
    }

    [Fact]
    public async Task Cancelled_wait_ends_without_an_exception()
    {
        using var cancelled = new CancellationTokenSource();
        var waiting = _wakeUp.WaitAsync(Long, cancelled.Token);

        await cancelled.CancelAsync();

        await Eventually.CompletesAsync(waiting);
        waiting.IsCompletedSuccessfully.Should().BeTrue();
    }

    [Fact]
    public void Nothing_to_wait_for_is_not_waited_for() => _wakeUp.WaitAsync(TimeSpan.Zero, CancellationToken.None).IsCompleted.Should().BeTrue();

    [Fact]
    public async Task Work_announced_from_another_thread_is_always_found()
    {
        const int Items = 20_000;
        var offered = 0;
        var producer = Task.Run(() =>
        {
            for (var item = 0; item < Items; item++)
            {
                Interlocked.Increment(ref offered);
                _wakeUp.Set();
            }
        });

        var found = 0;
        while (found < Items)
        {
            _wakeUp.Reset();
            found = Volatile.Read(ref offered);
            // The clock stands still: a signal that got lost would be waited for without end.
            if (found < Items)
                await Eventually.CompletesAsync(Wait());
        }

        await producer;
    }

    private Task Wait() => _wakeUp.WaitAsync(Long, CancellationToken.None);
}
