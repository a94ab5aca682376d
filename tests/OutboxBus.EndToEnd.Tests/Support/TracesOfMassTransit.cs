namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>
/// Tests of one process that must not run together: who listens to MassTransit's traces listens to every application's,
/// and while someone does, nothing is sent directly.
/// </summary>
internal static class TracesOfMassTransit
{
    public const string Name = "traces of MassTransit";
}
