using System.CommandLine;
using Examples.Walkthrough;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Diagnostics;

namespace Examples.Hosting;

/// <summary>What one example brings along; how it is run, served and walked through is the same for all.</summary>
/// <typeparam name="TStage">What the steps of its walkthrough act with.</typeparam>
public abstract class Example<TStage>
    where TStage : Stage
{
    /// <summary>The name in those of its files and schemas.</summary>
    public abstract string Name { get; }

    /// <summary>One sentence for --help.</summary>
    public abstract string Description { get; }

    /// <summary>The steps of its walkthrough, in order.</summary>
    public abstract IReadOnlyList<IStep<TStage>> Steps { get; }

    /// <summary>Switches of its own.</summary>
    public virtual IReadOnlyList<Option> Switches => [];

    /// <summary>Takes its own switches from the command line.</summary>
    public virtual void Read(ParseResult parsed)
    {
    }

    /// <summary>The database without a host around it.</summary>
    public abstract DbContext OpenDatabase(Engines engines);

    /// <summary>The application.</summary>
    /// <param name="engines">The database and the broker.</param>
    /// <param name="url">Where to listen; port 0: a free one.</param>
    /// <param name="configureLogging">Where the log goes.</param>
    /// <param name="faults">Accidents to happen; null: none.</param>
    public abstract WebApplication Build(Engines engines, string url, Action<ILoggingBuilder> configureLogging, FaultPoints? faults);

    /// <summary>What to try with the served application, line by line.</summary>
    public abstract IEnumerable<string> Hints(string address);

    public abstract TStage CreateStage(StageSetting setting);

    /// <summary>What the process does that is started to be killed; it has built and started <paramref name="app"/>.</summary>
    /// <param name="app">The application.</param>
    /// <param name="client">A client of it.</param>
    /// <param name="accidents">Kill the process here, unless it survives.</param>
    /// <param name="customer">Whose order it takes.</param>
    /// <param name="survives">The accident is left out, as a sabotage.</param>
    public abstract Task BeVictimAsync(WebApplication app, HttpClient client, Accidents accidents, string customer, bool survives);
}
