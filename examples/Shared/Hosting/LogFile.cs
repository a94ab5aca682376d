namespace Examples.Hosting;

/// <summary>Warnings and errors go to a file, so that the transcript stays readable: several of them are made on purpose.</summary>
public sealed class LogFile(string path) : ILoggerProvider
{
    private readonly Lock _lock = new();

    public string Path => path;

    public void Configure(ILoggingBuilder logging) => logging.ClearProviders().SetMinimumLevel(LogLevel.Warning).AddProvider(this);

    public ILogger CreateLogger(string categoryName) => new Writer(this, categoryName);

    public void Dispose()
    {
        // Nothing is held open: every application of the walkthrough disposes its providers, and the file is used on.
    }

    private void Write(string text)
    {
        lock (_lock)
            File.AppendAllText(path, text);
    }

    private sealed class Writer(LogFile file, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
                file.Write($"{logLevel} {category}: {formatter(state, exception)}{Environment.NewLine}{(exception is null ? "" : exception + Environment.NewLine)}");
        }
    }
}
