using OutboxBus;

namespace Examples.Hosting;

/// <summary>All short for the walkthroughs' sake; leave them out to have the defaults, which are right for production.</summary>
public static class ShortTimes
{
    /// <summary>
    /// How long a message just committed is left to the process that wrote it; by default 30 s. Short, so that the
    /// walkthroughs need not wait that long for a killed process.
    /// </summary>
    public static readonly TimeSpan Lease = TimeSpan.FromSeconds(2);

    public static void Use(DeliveryOptions delivery)
    {
        delivery.Lease = Lease;
        delivery.SendTimeout = TimeSpan.FromSeconds(1);
        delivery.MaxOutagePause = TimeSpan.FromSeconds(1);
    }
}
