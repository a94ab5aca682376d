namespace Sagas.Saga;

/// <summary>How long each service may take to answer; a real application would bind them to its configuration.</summary>
public sealed class AnswerLimits
{
    public TimeSpan Payment { get; set; } = TimeSpan.FromMinutes(1);

    public TimeSpan Stock { get; set; } = TimeSpan.FromMinutes(1);

    public TimeSpan Shipping { get; set; } = TimeSpan.FromMinutes(1);
}
