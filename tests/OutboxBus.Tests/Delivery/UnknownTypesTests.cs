using FluentAssertions;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Delivery;
using Xunit;

namespace OutboxBus.Tests.Delivery;

public sealed class UnknownTypesTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly UnknownTypes _types;

    public UnknownTypesTests() => _types = new UnknownTypes(_time);

    [Fact]
    public void Type_is_worth_one_line_an_hour()
    {
        Lines("a", 10_000).Should().Be(1);
        _time.Advance(TimeSpan.FromHours(1) - TimeSpan.FromTicks(1));
        Lines("a", 10_000).Should().Be(0);
        _time.Advance(TimeSpan.FromTicks(1));
        Lines("a", 10_000).Should().Be(1);
    }

    [Fact]
    public void Each_type_has_its_own_line()
        => (Lines("a", 2) + Lines("b", 2) + Lines("a", 2)).Should().Be(2);

    [Fact]
    public void Types_without_end_are_forgotten_instead_of_kept()
    {
        for (var type = 0; type < 1001; type++)
            Lines($"type {type}", 1).Should().Be(1);

        Lines("type 0", 1).Should().Be(1);
        Lines("type 1000", 1).Should().Be(0);
    }

    private int Lines(string type, int rows) => Enumerable.Range(0, rows).Count(_ => _types.IsWorthALine(type));
}
