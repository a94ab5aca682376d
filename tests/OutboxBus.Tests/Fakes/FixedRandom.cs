namespace OutboxBus.Tests.Fakes;

/// <summary>A source of jitter that always gives the same share.</summary>
internal class FixedRandom(double share) : Random
{
    public override double NextDouble() => share;
}

/// <summary>No jitter at all: the middle of its range.</summary>
internal sealed class MiddleRandom() : FixedRandom(0.5);
