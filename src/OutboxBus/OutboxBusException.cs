namespace OutboxBus;

/// <summary>An error of OutboxBus itself: its message says what happened, the value at fault and the remedy.</summary>
public class OutboxBusException : Exception
{
    /// <summary>Creates the exception.</summary>
    public OutboxBusException()
    {
    }

    /// <summary>Creates the exception.</summary>
    public OutboxBusException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    public OutboxBusException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}

/// <summary>A message was refused before it was stored because its body or headers are over the configured limit, or a name or address is longer than its column.</summary>
public sealed class MessageTooLargeException : OutboxBusException
{
    /// <summary>Creates the exception.</summary>
    public MessageTooLargeException()
    {
    }

    /// <summary>Creates the exception.</summary>
    public MessageTooLargeException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception.</summary>
    public MessageTooLargeException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
