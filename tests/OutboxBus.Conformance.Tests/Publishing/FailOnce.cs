using System.Data.Common;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Npgsql;

namespace OutboxBus.Conformance.Tests.Publishing;

// The first insert fails as if the server were short of resources for a moment.
public sealed class FailOnce : DbCommandInterceptor
{
    private int _failures;

    public int Failures => _failures;

    public override ValueTask<InterceptionResult<DbDataReader>> ReaderExecutingAsync(DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result, CancellationToken cancellationToken = default)
    {
        if (command.CommandText.Contains("INSERT", StringComparison.OrdinalIgnoreCase) && Interlocked.CompareExchange(ref _failures, 1, 0) == 0)
            throw new PostgresException("too many connections", "FATAL", "FATAL", PostgresErrorCodes.TooManyConnections);
        return new(result);
    }
}
