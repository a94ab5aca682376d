using Microsoft.Extensions.Diagnostics.HealthChecks;
using OutboxBus.Storage;

namespace OutboxBus.Diagnostics;

/// <summary>
/// Degraded when due messages are too old or too many, or when there are dead letters; unhealthy only when the database
/// cannot be asked. A broker that is down shows as age, never as an unhealthy process.
/// </summary>
internal sealed class OutboxHealthCheck(string bus, IOutboxDatabase database, HealthOptions options, OutboxMetrics metrics) : IHealthCheck
{
    public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        OutboxStatus status;
        try
        {
            status = await new OutboxStore(database).StatusAsync(bus, options.CountLimit, cancellationToken);
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            return HealthCheckResult.Unhealthy($"The outbox of {database.Key} cannot be read.", exception);
        }

        metrics.Observed(status);
        var data = new Dictionary<string, object>
        {
            ["pending"] = status.Pending,
            ["oldestPendingSeconds"] = (status.OldestPending ?? TimeSpan.Zero).TotalSeconds,
            ["deadLetters"] = status.DeadLetters,
        };

        var problems = new List<string>();
        if (status.OldestPending > options.MaxPendingAge)
            problems.Add($"the oldest pending message has been due for {status.OldestPending}");
        if (status.Pending > options.MaxPending)
            problems.Add($"more than {options.MaxPending} messages are pending");
        if (status.DeadLetters > options.MaxDeadLetters)
            problems.Add(options.MaxDeadLetters == 0 ? "there are dead letters" : $"there are more than {options.MaxDeadLetters} dead letters");
        return problems.Count == 0
            ? HealthCheckResult.Healthy($"The outbox of {database.Key} is in order.", data)
            : HealthCheckResult.Degraded($"Outbox of {database.Key}: {string.Join("; ", problems)}.", data: data);
    }
}
