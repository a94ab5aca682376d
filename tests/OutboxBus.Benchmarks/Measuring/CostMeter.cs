using System.Globalization;
using Npgsql;
using OutboxBus.TestServers;

namespace OutboxBus.Benchmarks.Measuring;

// What a stretch of work cost: processor time of the three processes, allocations, statements, write-ahead log.
public sealed class CostMeter(BenchmarkServers servers, PostgresTap? tap)
{
    private const double TicksPerSecond = 100;

    public async Task<Costs> ReadAsync() => new(
        Environment.CpuUsage.TotalTime.TotalSeconds,
        ProcessorSeconds(servers.Postgres.ProcessId, withChildren: true),
        ProcessorSeconds(servers.RabbitMq.ProcessId, withChildren: false),
        GC.GetTotalAllocatedBytes(precise: true),
        await ScalarAsync("select coalesce(sum(calls), 0)::float8 from pg_stat_statements(false)"),
        await ScalarAsync("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8"),
        tap?.RoundTrips);

    private async Task<double> ScalarAsync(string query)
    {
        await using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(servers.Postgres.ConnectionString) { Pooling = false }.ConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(query, connection);
        return (double)(await command.ExecuteScalarAsync())!;
    }

    // From /proc; a server process that has ended counts with its parent. Elsewhere than on Linux: not measured.
    private static double ProcessorSeconds(int process, bool withChildren)
    {
        if (!OperatingSystem.IsLinux())
            return double.NaN;
        var ticks = Ticks(process, withChildren ? 4 : 2);
        if (withChildren)
        {
            foreach (var child in File.ReadAllText($"/proc/{process}/task/{process}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))
                ticks += Ticks(int.Parse(child, CultureInfo.InvariantCulture), 2);
        }

        return ticks / TicksPerSecond;
    }

    // utime and stime, and those of children that were waited for: proc(5), fields 14 to 17.
    private static double Ticks(int process, int fields)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{process}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..].Split(' ').Skip(11).Take(fields).Sum(field => double.Parse(field, CultureInfo.InvariantCulture));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // It has just ended, and its parent has it now.
            return 0;
        }
    }
}

public readonly record struct Costs(double ApplicationSeconds, double PostgresSeconds, double BrokerSeconds, double AllocatedBytes, double Statements, double WalBytes, long? RoundTrips)
{
    // Per message, or per thousand where the name says so; round trips only if they were counted.
    public IEnumerable<Sample> Since(Costs before, int messages)
    {
        double PerThousand(double after, double earlier) => (after - earlier) * 1000 / messages;
        // The tap itself costs processor time, so that nothing else is worth telling.
        if (RoundTrips is { } roundTrips && before.RoundTrips is { } earlierTrips)
        {
            yield return new("round_trips_per_message", "", PerThousand(roundTrips, earlierTrips) / 1000);
            yield break;
        }

        yield return new("application_cpu_s_per_1000", "s", PerThousand(ApplicationSeconds, before.ApplicationSeconds));
        yield return new("postgres_cpu_s_per_1000", "s", PerThousand(PostgresSeconds, before.PostgresSeconds));
        yield return new("broker_cpu_s_per_1000", "s", PerThousand(BrokerSeconds, before.BrokerSeconds));
        yield return new("allocated_kb_per_message", "KB", PerThousand(AllocatedBytes, before.AllocatedBytes) / 1000 / 1024);
        yield return new("statements_per_message", "", PerThousand(Statements, before.Statements) / 1000);
        yield return new("wal_bytes_per_message", "B", PerThousand(WalBytes, before.WalBytes) / 1000);
    }
}

// One number measured once.
public readonly record struct Sample(string Metric, string Unit, double Value);
