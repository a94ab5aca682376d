using OutboxBus.Storage;

namespace OutboxBus.Delivery;

/// <summary>What to do with a row before and after its send. Pure functions: no I/O, no clock.</summary>
internal static class DeliveryPolicy
{
    // Enough for two processes to have been stopped for other reasons while they held the row.
    internal const int ClaimsBeforeSuspicion = 3;

    /// <summary>How many lone sends may end without an outcome: one may have been stopped for another reason, or have outlasted its lease.</summary>
    internal const int LoneSends = 3;

    // Claims count in ones, lone sends in thousands, in the one column.
    private const int LoneSend = 1000;

    private const int MaxErrorLength = 1000;

    /// <summary>How a row just taken is to be treated, from what is known of it.</summary>
    public static Treatment Triage(Envelope envelope, bool suspect, DateTimeOffset now)
    {
        if (envelope.ExpiresAt <= now.UtcDateTime)
            return Treatment.BuryExpired;
        return envelope.ClaimCount switch
        {
            >= LoneSends * LoneSend => Treatment.BuryNoOutcome,
            >= ClaimsBeforeSuspicion => Treatment.SendAlone,
            _ => suspect ? Treatment.SendApart : Treatment.Send,
        };
    }

    /// <summary>What follows from a send's outcome.</summary>
    /// <param name="envelope">The envelope that was sent.</param>
    /// <param name="outcome">What became of it.</param>
    /// <param name="charged">Whether a transport failure is this message's own fault.</param>
    /// <param name="outagePause">How long to wait after a transport failure that is not.</param>
    /// <param name="now">The process's time.</param>
    /// <param name="options">Attempts and back-off.</param>
    /// <param name="random">The source of jitter.</param>
    public static Verdict Judge(
        Envelope envelope, SendOutcome outcome, bool charged, TimeSpan outagePause, DateTimeOffset now, DeliveryOptions options, Random random)
    {
        switch (outcome.Kind)
        {
            case SendOutcomeKind.Confirmed:
                return Verdict.Complete(envelope);

            case SendOutcomeKind.Corrupt:
                return Verdict.Bury(new Burial(envelope, DeadLetterReason.Corrupt, envelope.Attempts, Describe(outcome.Error)));

            case SendOutcomeKind.UnknownType:
                return Verdict.Reschedule(new Rescheduling(envelope, WaitForKnowledge(envelope, now, options, random), envelope.Attempts, 0, Describe(outcome.Error))) with { ForOthers = true };

            case SendOutcomeKind.TransportFailed when !charged:
                return Verdict.Reschedule(new Rescheduling(envelope, outagePause, envelope.Attempts, 0, Describe(outcome.Error)));

            default:
                var attempts = envelope.Attempts + 1;
                return attempts >= options.MaxAttempts
                    ? Verdict.Bury(new Burial(envelope, DeadLetterReason.Refused, attempts, Describe(outcome.Error)))
                    : Verdict.Reschedule(new Rescheduling(envelope, Backoff(attempts, options, random), attempts, 0, Describe(outcome.Error)));
        }
    }

    /// <summary>The claim count to write just before a row is sent alone: it notes that send, whatever claims come to nothing in between.</summary>
    public static int WithLoneSend(int claimCount) => ((claimCount / LoneSend) + 1) * LoneSend;

    /// <summary>Gives a row back that was not sent after all; the claim does not count.</summary>
    public static Verdict PutBack(Envelope envelope, TimeSpan delay)
        => Verdict.Reschedule(new Rescheduling(envelope, delay, envelope.Attempts, Math.Max(0, envelope.ClaimCount - 1), null));

    /// <summary>The back-off after the n-th refusal: doubling from the least to the most, with jitter.</summary>
    public static TimeSpan Backoff(int attempts, DeliveryOptions options, Random random)
    {
        var seconds = options.MinBackoff.TotalSeconds * Math.Pow(2, attempts - 1);
        var capped = Math.Min(seconds, options.MaxBackoff.TotalSeconds);
        return Jitter.Apply(TimeSpan.FromSeconds(capped), random);
    }

    /// <summary>
    /// How long a message of an unknown type waits for a process that knows it: as long again as it is due already, which
    /// doubles the pauses without a count, from a lease up to the longest back-off.
    /// </summary>
    private static TimeSpan WaitForKnowledge(Envelope envelope, DateTimeOffset now, DeliveryOptions options, Random random)
    {
        var overdue = now.UtcDateTime - (envelope.DueAt ?? envelope.CreatedAt);
        var longest = options.MaxBackoff > options.Lease ? options.MaxBackoff : options.Lease;
        return Jitter.Apply(TimeSpan.FromTicks(Math.Clamp(overdue.Ticks, options.Lease.Ticks, longest.Ticks)), random);
    }

    private static string? Describe(Exception? error)
    {
        if (error is null)
            return null;
        var text = $"{error.GetType().FullName}: {error.Message}";
        // Such as the broker's own words.
        for (var inner = error.InnerException; inner is not null; inner = inner.InnerException)
            text += $" ({inner.GetType().Name}: {inner.Message})";
        if (text.Length > MaxErrorLength)
            text = text[..MaxErrorLength];
        // PostgreSQL refuses a NUL, and its driver half of a surrogate pair.
        return string.Concat(text.EnumerateRunes()).Replace('\0', '\uFFFD');
    }
}

/// <summary>How a row just taken is treated.</summary>
internal enum Treatment
{
    /// <summary>With the others.</summary>
    Send,

    /// <summary>One at a time, apart from the others, because it may break the channel.</summary>
    SendApart,

    /// <summary>Like that, but marked in the database first: it may kill the process, and then nobody else may look guilty.</summary>
    SendAlone,

    /// <summary>Not at all: its time to live has passed.</summary>
    BuryExpired,

    /// <summary>Not at all: it was sent alone and that ended without an outcome.</summary>
    BuryNoOutcome,
}

/// <summary>What is written to the database about one envelope: exactly one of the three is set.</summary>
internal readonly record struct Verdict(Envelope? Completed, Rescheduling? Rescheduled, Burial? Buried)
{
    /// <summary>The row waits for another process: this one must not be the first to claim it when it is due.</summary>
    public bool ForOthers { get; init; }

    public Envelope Envelope => Completed ?? Rescheduled?.Envelope ?? Buried!.Envelope;

    public static Verdict Complete(Envelope envelope) => new(envelope, null, null);

    public static Verdict Reschedule(Rescheduling rescheduling) => new(null, rescheduling, null);

    public static Verdict Bury(Burial burial) => new(null, null, burial);
}
