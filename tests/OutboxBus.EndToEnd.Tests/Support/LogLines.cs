using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>Collects what is logged.</summary>
internal sealed class LogLines : ILoggerProvider
{
    private readonly ConcurrentQueue<LogLine> _lines = new();

    public IReadOnlyList<LogLine> All => [.. _lines];

    public int Count(int eventId) => _lines.Count(line => line.EventId == eventId);

    public ILogger CreateLogger(string categoryName) => new Logger(_lines, categoryName);

    public void Dispose()
    {
    }

    private sealed class Logger(ConcurrentQueue<LogLine> lines, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
            => lines.Enqueue(new LogLine(category.StartsWith(nameof(OutboxBus), StringComparison.Ordinal) ? eventId.Id : 0, logLevel, category, formatter(state, exception), exception));
    }
}

/// <summary>One line; the event id is that of OutboxBus, or 0 for the lines of others.</summary>
internal sealed record LogLine(int EventId, LogLevel Level, string Category, string Text, Exception? Exception);
