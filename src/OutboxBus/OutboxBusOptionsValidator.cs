using Microsoft.Extensions.Options;

namespace OutboxBus;

/// <summary>Checks every option and the relations between them, and reports all errors at once.</summary>
internal sealed class OutboxBusOptionsValidator : IValidateOptions<OutboxBusOptions>
{
    public ValidateOptionsResult Validate(string? name, OutboxBusOptions options)
    {
        var errors = new List<string>();

        var publishing = options.Publishing;
        InRange(errors, "Publishing.MaxBodyBytes", publishing.MaxBodyBytes, 1, 64 * 1024 * 1024);
        InRange(errors, "Publishing.MaxHeaderBytes", publishing.MaxHeaderBytes, 1024, 1024 * 1024);
        Check(errors, Enum.IsDefined(publishing.Unsaved), "Publishing.Unsaved", publishing.Unsaved, "a member of UnsavedMessages");
        Check(errors, Enum.IsDefined(publishing.Bypass), "Publishing.Bypass", publishing.Bypass, "a member of OutboxBypass");
        Check(errors, Enum.IsDefined(publishing.RequestsInHandlers), "Publishing.RequestsInHandlers", publishing.RequestsInHandlers, "a member of OutboxBypass");

        var delivery = options.Delivery;
        InRange(errors, "Delivery.MaxAttempts", delivery.MaxAttempts, 1, 1000);
        InRange(errors, "Delivery.MinBackoff", delivery.MinBackoff, TimeSpan.FromMilliseconds(10), TimeSpan.FromHours(1));
        InRange(errors, "Delivery.MaxBackoff", delivery.MaxBackoff, delivery.MinBackoff, TimeSpan.FromDays(1));
        InRange(errors, "Delivery.Lease", delivery.Lease, TimeSpan.FromSeconds(1), TimeSpan.FromHours(1));
        Check(
            errors,
            delivery.SendTimeout >= TimeSpan.FromMilliseconds(100) && delivery.SendTimeout <= delivery.Lease / 2,
            "Delivery.SendTimeout",
            delivery.SendTimeout,
            $"at least 100 ms and at most half of Delivery.Lease, which is {delivery.Lease}");
        InRange(errors, "Delivery.PollInterval", delivery.PollInterval, TimeSpan.FromMilliseconds(10), TimeSpan.FromMinutes(5));
        InRange(errors, "Delivery.ClaimBatch", delivery.ClaimBatch, 1, 1000);
        InRange(errors, "Delivery.MaxInFlight", delivery.MaxInFlight, 1, 10_000);
        InRange(errors, "Delivery.HandOffMessages", delivery.HandOffMessages, 0, 1_000_000);
        InRange(errors, "Delivery.HandOffBytes", delivery.HandOffBytes, 0, long.MaxValue);
        InRange(errors, "Delivery.SettleDelay", delivery.SettleDelay, TimeSpan.Zero, TimeSpan.FromSeconds(1));
        InRange(errors, "Delivery.MinOutagePause", delivery.MinOutagePause, TimeSpan.FromMilliseconds(10), TimeSpan.FromMinutes(1));
        InRange(errors, "Delivery.MaxOutagePause", delivery.MaxOutagePause, delivery.MinOutagePause, TimeSpan.FromMinutes(10));
        InRange(errors, "Delivery.StopTimeout", delivery.StopTimeout, TimeSpan.Zero, TimeSpan.FromMinutes(10));

        var inbox = options.Inbox;
        Check(errors, Enum.IsDefined(inbox.Mode), "Inbox.Mode", inbox.Mode, "a member of InboxMode");
        InRange(errors, "Inbox.Retention", inbox.Retention, TimeSpan.FromMinutes(1), TimeSpan.FromDays(3660));
        InRange(errors, "Inbox.PurgeInterval", inbox.PurgeInterval, TimeSpan.FromSeconds(1), TimeSpan.FromDays(1));
        InRange(errors, "Inbox.PurgeBatch", inbox.PurgeBatch, 1, 10_000);

        var health = options.Health;
        Check(errors, health.MaxPendingAge > TimeSpan.Zero, "Health.MaxPendingAge", health.MaxPendingAge, "positive");
        InRange(errors, "Health.MaxPending", health.MaxPending, 1, 1_000_000);
        InRange(errors, "Health.MaxDeadLetters", health.MaxDeadLetters, 0, 1_000_000);
        InRange(errors, "Health.GaugeInterval", health.GaugeInterval, TimeSpan.FromSeconds(1), TimeSpan.FromHours(1));

        return errors.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(errors);
    }

    private static void InRange<T>(List<string> errors, string option, T value, T min, T max)
        where T : IComparable<T>
        => Check(errors, value.CompareTo(min) >= 0 && value.CompareTo(max) <= 0, option, value, $"between {min} and {max}");

    private static void Check<T>(List<string> errors, bool valid, string option, T value, string rule)
    {
        if (!valid)
            errors.Add($"OutboxBus option {option} is {value}; it must be {rule}.");
    }
}
