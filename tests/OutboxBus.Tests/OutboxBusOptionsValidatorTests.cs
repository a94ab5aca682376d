using System.Globalization;
using FluentAssertions;
using Xunit;

namespace OutboxBus.Tests;

public sealed class OutboxBusOptionsValidatorTests
{
    private static readonly TimeSpan Tick = TimeSpan.FromTicks(1);

    private sealed record Rule(string Option, object Default, Func<OutboxBusOptions, object> Get, object Least, object TooLow, object Most, object? TooHigh, Action<OutboxBusOptions, object> Set);

    // The documented defaults and ranges. Options with a relation to others are tested with those at their defaults.
    private static readonly Rule[] Rules =
    [
        Number("Publishing.MaxBodyBytes", 262_144, 1, 67_108_864, o => o.Publishing.MaxBodyBytes, (o, v) => o.Publishing.MaxBodyBytes = v),
        Number("Publishing.MaxHeaderBytes", 65_536, 1024, 1_048_576, o => o.Publishing.MaxHeaderBytes, (o, v) => o.Publishing.MaxHeaderBytes = v),
        Number("Delivery.MaxAttempts", 10, 1, 1000, o => o.Delivery.MaxAttempts, (o, v) => o.Delivery.MaxAttempts = v),
        Time("Delivery.MinBackoff", "0:00:01", "0:00:00.010", "0:05:00", o => o.Delivery.MinBackoff, (o, v) => o.Delivery.MinBackoff = v) with { TooHigh = TimeSpan.FromHours(1) + Tick },
        Time("Delivery.MaxBackoff", "0:05:00", "0:00:01", "1.00:00:00", o => o.Delivery.MaxBackoff, (o, v) => o.Delivery.MaxBackoff = v),
        Time("Delivery.Lease", "0:00:30", "0:00:20", "1:00:00", o => o.Delivery.Lease, (o, v) => o.Delivery.Lease = v) with { TooLow = TimeSpan.FromSeconds(1) - Tick },
        Time("Delivery.SendTimeout", "0:00:10", "0:00:00.100", "0:00:15", o => o.Delivery.SendTimeout, (o, v) => o.Delivery.SendTimeout = v),
        Time("Delivery.PollInterval", "0:00:01", "0:00:00.010", "0:05:00", o => o.Delivery.PollInterval, (o, v) => o.Delivery.PollInterval = v),
        Number("Delivery.ClaimBatch", 500, 1, 1000, o => o.Delivery.ClaimBatch, (o, v) => o.Delivery.ClaimBatch = v),
        Number("Delivery.MaxInFlight", 1000, 1, 10_000, o => o.Delivery.MaxInFlight, (o, v) => o.Delivery.MaxInFlight = v),
        Number("Delivery.HandOffMessages", 50_000, 0, 1_000_000, o => o.Delivery.HandOffMessages, (o, v) => o.Delivery.HandOffMessages = v),
        new("Delivery.HandOffBytes", 67_108_864L, o => o.Delivery.HandOffBytes, 0L, -1L, long.MaxValue, null, (o, v) => o.Delivery.HandOffBytes = (long)v),
        Time("Delivery.SettleDelay", "0:00:00.050", "0:00:00", "0:00:01", o => o.Delivery.SettleDelay, (o, v) => o.Delivery.SettleDelay = v),
        Time("Delivery.MinOutagePause", "0:00:00.200", "0:00:00.010", "0:00:05", o => o.Delivery.MinOutagePause, (o, v) => o.Delivery.MinOutagePause = v) with { TooHigh = TimeSpan.FromMinutes(1) + Tick },
        Time("Delivery.MaxOutagePause", "0:00:05", "0:00:00.200", "0:10:00", o => o.Delivery.MaxOutagePause, (o, v) => o.Delivery.MaxOutagePause = v),
        Time("Delivery.StopTimeout", "0:00:15", "0:00:00", "0:10:00", o => o.Delivery.StopTimeout, (o, v) => o.Delivery.StopTimeout = v),
        Time("Inbox.Retention", "7.00:00:00", "0:01:00", "3660.00:00:00", o => o.Inbox.Retention, (o, v) => o.Inbox.Retention = v),
        Time("Inbox.PurgeInterval", "0:01:00", "0:00:01", "1.00:00:00", o => o.Inbox.PurgeInterval, (o, v) => o.Inbox.PurgeInterval = v),
        Number("Inbox.PurgeBatch", 1000, 1, 10_000, o => o.Inbox.PurgeBatch, (o, v) => o.Inbox.PurgeBatch = v),
        new("Health.MaxPendingAge", TimeSpan.FromMinutes(5), o => o.Health.MaxPendingAge, Tick, TimeSpan.Zero, TimeSpan.MaxValue, null, (o, v) => o.Health.MaxPendingAge = (TimeSpan)v),
        Number("Health.MaxPending", 10_000, 1, 1_000_000, o => o.Health.MaxPending, (o, v) => o.Health.MaxPending = v),
        Number("Health.MaxDeadLetters", 0, 0, 1_000_000, o => o.Health.MaxDeadLetters, (o, v) => o.Health.MaxDeadLetters = v),
        Time("Health.GaugeInterval", "0:00:15", "0:00:01", "1:00:00", o => o.Health.GaugeInterval, (o, v) => o.Health.GaugeInterval = v),
    ];

    public static TheoryData<string> Options => [.. Rules.Select(rule => rule.Option)];

    [Fact]
    public void Defaults_are_valid() => Errors(new OutboxBusOptions()).Should().BeEmpty();

    [Fact]
    public void Every_option_with_a_range_is_in_the_table()
    {
        var options = new OutboxBusOptions();
        var all = from part in new object[] { options.Publishing, options.Delivery, options.Inbox, options.Health }
                  from property in part.GetType().GetProperties()
                  where property.PropertyType != typeof(bool) && !property.PropertyType.IsEnum
                  select $"{part.GetType().Name.Replace("Options", "", StringComparison.Ordinal)}.{property.Name}";

        Rules.Select(rule => rule.Option).Should().BeEquivalentTo(all);
    }

    [Theory]
    [MemberData(nameof(Options))]
    public void Default_is_as_documented(string option)
    {
        var rule = Find(option);

        rule.Get(new OutboxBusOptions()).Should().Be(rule.Default);
    }

    [Theory]
    [MemberData(nameof(Options))]
    public void Both_ends_of_the_range_are_accepted(string option)
    {
        var rule = Find(option);

        Errors(With(rule, rule.Least)).Should().BeEmpty();
        Errors(With(rule, rule.Most)).Where(error => error.Contains($" {option} ", StringComparison.Ordinal)).Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Options))]
    public void Values_beyond_the_range_are_reported_with_name_and_value(string option)
    {
        var rule = Find(option);

        foreach (var wrong in new[] { rule.TooLow, rule.TooHigh }.OfType<object>())
            Errors(With(rule, wrong)).Should().Contain(error => error.Contains($"{option} is {wrong};", StringComparison.Ordinal));
    }

    [Fact]
    public void All_errors_are_reported_together()
    {
        var options = new OutboxBusOptions();
        foreach (var rule in Rules)
            rule.Set(options, rule.TooLow);

        var errors = Errors(options);

        // Bounds that are other options move with them, so these two are within theirs.
        var moved = new[] { "Delivery.MaxBackoff", "Delivery.MaxOutagePause" };
        foreach (var rule in Rules.Where(rule => !moved.Contains(rule.Option)))
            errors.Should().Contain(error => error.Contains($" {rule.Option} ", StringComparison.Ordinal));
    }

    [Fact]
    public void Longest_backoff_is_not_below_the_shortest()
        => Errors(o =>
        {
            o.Delivery.MinBackoff = TimeSpan.FromMinutes(2);
            o.Delivery.MaxBackoff = TimeSpan.FromMinutes(1);
        }).Should().ContainSingle().Which.Should().Contain("Delivery.MaxBackoff is 00:01:00").And.Contain("00:02:00");

    [Fact]
    public void Longest_outage_pause_is_not_below_the_shortest()
        => Errors(o =>
        {
            o.Delivery.MinOutagePause = TimeSpan.FromSeconds(20);
            o.Delivery.MaxOutagePause = TimeSpan.FromSeconds(10);
        }).Should().ContainSingle().Which.Should().Contain("Delivery.MaxOutagePause is 00:00:10").And.Contain("00:00:20");

    [Fact]
    public void Send_ends_within_half_of_its_lease()
        => Errors(o =>
        {
            o.Delivery.Lease = TimeSpan.FromSeconds(10);
            o.Delivery.SendTimeout = TimeSpan.FromSeconds(6);
        }).Should().ContainSingle().Which.Should().Contain("Delivery.SendTimeout is 00:00:06").And.Contain("half of Delivery.Lease");

    [Fact]
    public void Lease_has_a_range_of_its_own()
        => Errors(o =>
        {
            o.Delivery.SendTimeout = TimeSpan.FromMilliseconds(100);
            o.Delivery.Lease = TimeSpan.FromMilliseconds(999);
        }).Should().ContainSingle().Which.Should().Contain("Delivery.Lease is 00:00:00.9990000");

    [Fact]
    public void Shortest_backoff_has_a_range_of_its_own()
        => Errors(o =>
        {
            o.Delivery.MaxBackoff = TimeSpan.FromHours(2);
            o.Delivery.MinBackoff = TimeSpan.FromHours(1) + Tick;
        }).Should().ContainSingle().Which.Should().Contain("Delivery.MinBackoff");

    [Fact]
    public void Shortest_outage_pause_has_a_range_of_its_own()
        => Errors(o =>
        {
            o.Delivery.MaxOutagePause = TimeSpan.FromMinutes(2);
            o.Delivery.MinOutagePause = TimeSpan.FromMinutes(1) + Tick;
        }).Should().ContainSingle().Which.Should().Contain("Delivery.MinOutagePause");

    [Fact]
    public void Enumerations_take_only_their_members()
    {
        Errors(o => o.Publishing.Unsaved = (UnsavedMessages)7).Should().ContainSingle().Which.Should().Contain("Publishing.Unsaved is 7");
        Errors(o => o.Inbox.Mode = (InboxMode)7).Should().ContainSingle().Which.Should().Contain("Inbox.Mode is 7");
    }

    private static List<string> Errors(Action<OutboxBusOptions> configure)
    {
        var options = new OutboxBusOptions();
        configure(options);
        return Errors(options);
    }

    private static List<string> Errors(OutboxBusOptions options) => [.. new OutboxBusOptionsValidator().Validate(null, options).Failures ?? []];

    private static Rule Find(string option) => Rules.Single(rule => rule.Option == option);

    private static OutboxBusOptions With(Rule rule, object value)
    {
        var options = new OutboxBusOptions();
        rule.Set(options, value);
        return options;
    }

    private static Rule Number(string option, int standard, int least, int most, Func<OutboxBusOptions, int> get, Action<OutboxBusOptions, int> set)
        => new(option, standard, o => get(o), least, least - 1, most, most + 1, (o, v) => set(o, (int)v));

    private static Rule Time(string option, string standard, string least, string most, Func<OutboxBusOptions, TimeSpan> get, Action<OutboxBusOptions, TimeSpan> set)
        => new(option, Parse(standard), o => get(o), Parse(least), Parse(least) - Tick, Parse(most), Parse(most) + Tick, (o, v) => set(o, (TimeSpan)v));

    private static TimeSpan Parse(string text) => TimeSpan.Parse(text, CultureInfo.InvariantCulture);
}
