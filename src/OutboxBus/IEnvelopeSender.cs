namespace OutboxBus;

/// <summary>Hands envelopes to a broker. Called for many envelopes at once; each call stands for itself.</summary>
public interface IEnvelopeSender
{
    /// <summary>
    /// Sends one envelope and returns when the broker has confirmed or refused it, or could not be asked. Must not throw
    /// for a failure of the message or the transport; must observe the token.
    /// </summary>
    Task<SendOutcome> SendAsync(Envelope envelope, CancellationToken cancellationToken);
}

/// <summary>What became of one send.</summary>
/// <param name="Kind">The outcome.</param>
/// <param name="Error">The error behind it; null when confirmed.</param>
public readonly record struct SendOutcome(SendOutcomeKind Kind, Exception? Error = null)
{
    /// <summary>The broker has confirmed the message.</summary>
    public static SendOutcome Confirmed => new(SendOutcomeKind.Confirmed);

    /// <summary>The broker or the transport refused this very message: it costs the message an attempt.</summary>
    public static SendOutcome Refused(Exception error) => new(SendOutcomeKind.Refused, error);

    /// <summary>The transport failed or gave no answer in time; the message may have arrived. It costs no attempt.</summary>
    public static SendOutcome TransportFailed(Exception error) => new(SendOutcomeKind.TransportFailed, error);

    /// <summary>This process does not know the message's type: the message waits for one that does.</summary>
    public static SendOutcome UnknownType(Exception error) => new(SendOutcomeKind.UnknownType, error);

    /// <summary>The row cannot be turned into a message: no further attempt would help.</summary>
    public static SendOutcome Corrupt(Exception error) => new(SendOutcomeKind.Corrupt, error);
}

/// <summary>The kinds of <see cref="SendOutcome"/>.</summary>
public enum SendOutcomeKind
{
    /// <inheritdoc cref="SendOutcome.Confirmed"/>
    Confirmed,

    /// <inheritdoc cref="SendOutcome.Refused"/>
    Refused,

    /// <inheritdoc cref="SendOutcome.TransportFailed"/>
    TransportFailed,

    /// <inheritdoc cref="SendOutcome.UnknownType"/>
    UnknownType,

    /// <inheritdoc cref="SendOutcome.Corrupt"/>
    Corrupt,
}
