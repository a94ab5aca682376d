using MassTransit;

namespace Sagas.Saga;

/// <summary>How far the fulfilment of one order has come: one row, loaded for each event and saved in one transaction with the messages it causes.</summary>
public sealed class OrderState : SagaStateMachineInstance
{
    /// <summary>The order's id.</summary>
    public Guid CorrelationId { get; set; }

    public string CurrentState { get; set; } = "";

    public string Customer { get; set; } = "";

    public string Product { get; set; } = "";

    public int Quantity { get; set; }

    public int Cents { get; set; }

    public Leg Payment { get; set; }

    public Leg Stock { get; set; }

    public Leg Shipping { get; set; }

    /// <summary>By this the scheduled timeout is taken back; null: none is scheduled.</summary>
    public Guid? OverdueToken { get; set; }

    /// <summary>Every state it has been in.</summary>
    public List<HistoryEntry> History { get; } = [];

    /// <summary>Whether something is still being undone.</summary>
    public bool IsBeingUndone => Payment == Leg.Undoing || Stock == Leg.Undoing || Shipping == Leg.Undoing;
}

/// <summary>What has become of one part of the fulfilment. An answer counts only while it is <see cref="Asked"/> for.</summary>
public enum Leg
{
    None,
    Asked,
    Refused,
    Done,
    Undoing,
    Undone,
}

/// <summary>A state, and the event that led to it.</summary>
public sealed class HistoryEntry
{
    public int Id { get; init; }

    public Guid OrderId { get; init; }

    public required string State { get; init; }

    public required string Event { get; init; }

    public DateTime At { get; init; }
}
