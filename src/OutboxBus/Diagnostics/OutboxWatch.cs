namespace OutboxBus.Diagnostics;

/// <summary>What a test harness sees of messages on their way; without one nothing is noted. Called from any thread.</summary>
internal abstract class OutboxWatch
{
    /// <summary>A message was taken into a unit of work.</summary>
    public abstract void Captured(Envelope envelope, object message);

    /// <summary>A message goes past the outbox, from code that has a unit of work.</summary>
    public abstract void Bypassed(string messageType);

    /// <summary>A scope has ended with messages that were captured and never saved.</summary>
    public abstract void Unsaved(IReadOnlyCollection<Envelope> envelopes);

    /// <summary>A consumer's transaction has ended.</summary>
    /// <param name="message">The message.</param>
    /// <param name="messageId">Its id, by which the inbox knows it.</param>
    /// <param name="consumer">The consumer's name.</param>
    /// <param name="isDuplicate">Whether it had been consumed before, and nothing was done.</param>
    /// <param name="exception">Why it was rolled back; null: it was committed.</param>
    public abstract void Consumed(object message, Guid messageId, string consumer, bool isDuplicate, Exception? exception);
}
