using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace OutboxBus.Tests.Fakes;

/// <summary>Keeps every log message, as a provider that writes them out would see it.</summary>
internal class RecordedLogs : ILogger
{
    private readonly ConcurrentQueue<LoggedMessage> _messages = new();

    public IReadOnlyList<LoggedMessage> Messages => [.. _messages];

    public int Count(int eventId) => _messages.Count(message => message.EventId == eventId);

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        => _messages.Enqueue(new LoggedMessage(logLevel, eventId.Id, formatter(state, exception), $"{state} {exception}"));
}

/// <summary>The same for a class that asks for its own category.</summary>
internal sealed class RecordedLogs<T> : RecordedLogs, ILogger<T>;

internal sealed record LoggedMessage(LogLevel Level, int EventId, string Text, string Everything);
