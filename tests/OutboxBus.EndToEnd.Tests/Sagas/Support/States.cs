using MassTransit;

namespace OutboxBus.EndToEnd.Tests.Sagas.Support;

/// <summary>An order, which moves step by step. Its row has a version.</summary>
public sealed class OrderState : SagaStateMachineInstance
{
    public Guid CorrelationId { get; set; }

    public string CurrentState { get; set; } = "";

    public int Number { get; set; }

    public string Region { get; set; } = "";

    public int Steps { get; set; }

    public int Ready { get; set; }

    public Guid? PriceRequestId { get; set; }

    public Guid? ReminderId { get; set; }

    public string? Note { get; set; }

    public uint Version { get; set; }
}

/// <summary>What is sent for an order, by a second machine. Its row has a version, but never changes once it is there: its labels do.</summary>
public sealed class ShipmentState : SagaStateMachineInstance
{
    public Guid CorrelationId { get; set; }

    public int CurrentState { get; set; }

    public List<ShipmentLabel> Labels { get; } = [];

    public uint Version { get; set; }
}

public sealed class ShipmentLabel
{
    public int Number { get; set; }
}

/// <summary>A saga of several tables, without a version.</summary>
public sealed class BasketState : SagaStateMachineInstance
{
    public Guid CorrelationId { get; set; }

    public string CurrentState { get; set; } = "";

    public BasketAddress? Address { get; set; }

    public List<BasketLine> Lines { get; } = [];
}

public sealed class BasketAddress
{
    public string Street { get; set; } = "";

    public string City { get; set; } = "";
}

public sealed class BasketLine
{
    public long Id { get; set; }

    public Guid BasketId { get; set; }

    public string Sku { get; set; } = "";

    public int Quantity { get; set; }
}
