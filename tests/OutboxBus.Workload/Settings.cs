using System.Globalization;
using OutboxBus.Diagnostics;

namespace OutboxBus.Workload;

/// <summary>What a process of a kill test is to do.</summary>
public sealed record Settings
{
    public required string Postgres { get; init; }

    public required string RabbitMq { get; init; }

    /// <summary>Whether its handlers consume.</summary>
    public bool Consumes { get; init; }

    /// <summary>When its handlers record what they consume.</summary>
    public InboxMode Inbox { get; init; }

    /// <summary>Whether it delivers from the outbox.</summary>
    public bool Delivers { get; init; } = true;

    /// <summary>How long a claim lasts; a send may take half of it.</summary>
    public TimeSpan Lease { get; init; } = LedgerDb.Lease;

    /// <summary>How many orders it places, one after the other; then it says so on its standard output.</summary>
    public int Messages { get; init; }

    /// <summary>Where it kills itself; null: nowhere.</summary>
    public FaultPoint? KillAt { get; init; }

    /// <summary>At the how manieth time it reaches that point.</summary>
    public int KillAfter { get; init; } = 1;

    public IReadOnlyList<string> ToArguments()
    {
        List<string> arguments =
        [
            "--postgres", Postgres, "--rabbitmq", RabbitMq, "--consumes", $"{Consumes}", "--inbox", $"{Inbox}", "--delivers", $"{Delivers}",
            "--messages", $"{Messages}", "--kill-after", $"{KillAfter}", "--lease", $"{Lease:c}",
        ];
        if (KillAt is { } point)
            arguments.AddRange(["--kill-at", $"{point}"]);
        return arguments;
    }

    /// <exception cref="FormatException">The arguments are not pairs of a known name and a value.</exception>
    public static Settings Parse(IReadOnlyList<string> arguments)
    {
        var settings = new Settings { Postgres = "", RabbitMq = "" };
        foreach (var pair in arguments.Chunk(2))
        {
            if (pair is not [var name, var value])
                throw new FormatException($"{pair[0]} has no value.");
            settings = name switch
            {
                "--postgres" => settings with { Postgres = value },
                "--rabbitmq" => settings with { RabbitMq = value },
                "--consumes" => settings with { Consumes = bool.Parse(value) },
                "--inbox" => settings with { Inbox = Enum.Parse<InboxMode>(value) },
                "--delivers" => settings with { Delivers = bool.Parse(value) },
                "--messages" => settings with { Messages = int.Parse(value, CultureInfo.InvariantCulture) },
                "--lease" => settings with { Lease = TimeSpan.ParseExact(value, "c", CultureInfo.InvariantCulture) },
                "--kill-at" => settings with { KillAt = Enum.Parse<FaultPoint>(value) },
                "--kill-after" => settings with { KillAfter = int.Parse(value, CultureInfo.InvariantCulture) },
                _ => throw new FormatException($"{name} is not known."),
            };
        }

        return settings;
    }
}
