namespace OutboxBus.Publishing;

/// <summary>What an <see cref="IOutboxContext"/> of OutboxBus itself lets a database adapter reach.</summary>
internal interface IUnitOfWorkAccess
{
    /// <summary>Where the scope's messages go; null while a message is handled, whose transaction takes them all.</summary>
    IUnitOfWorkSource? Source { get; }
}
