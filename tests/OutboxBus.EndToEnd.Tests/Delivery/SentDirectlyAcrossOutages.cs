using FluentAssertions;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

[Collection(TracesOfMassTransit.Name)]
public sealed class SentDirectlyAcrossOutages
{
    private const string Queue = "spy";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    [SkippableFact]
    public async Task An_exchange_that_is_gone_is_declared_again_with_its_bindings()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(IOrderEvent));
        await using var senders = await Senders.StartAsync(stack);
        var envelope = await senders.CaptureAsync(new OrderPlaced(Guid.NewGuid()));
        await senders.WarmUpAsync(envelope);
        await broker.PurgeAsync([Queue]);

        await broker.DeleteExchangeAsync(RawBroker.ExchangeOf(typeof(OrderPlaced)));
        var lost = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => senders.Direct.SendAsync(envelope, CancellationToken.None)));

        lost.Should().OnlyContain(outcome => outcome.Kind == SendOutcomeKind.TransportFailed || outcome.Kind == SendOutcomeKind.Confirmed);
        lost.Should().Contain(outcome => outcome.Kind == SendOutcomeKind.TransportFailed);
        (await senders.Direct.SendAsync(envelope, CancellationToken.None)).Should().Be(SendOutcome.Confirmed);
        await broker.TakeAsync(Queue);
        await senders.WarmUpAsync(envelope);
    }

    [SkippableFact]
    public async Task A_killed_broker_fails_what_is_under_way_and_is_used_again_when_it_is_back()
    {
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("outage"), await rabbitMq.CreateVirtualHostAsync("outage"));
        await using var senders = await Senders.StartAsync(stack);
        var envelope = await senders.CaptureAsync(new OrderPlaced(Guid.NewGuid()));
        await senders.WarmUpAsync(envelope);

        var killing = rabbitMq.KillAsync();
        SendOutcome outcome;
        do
            outcome = await SendPatientlyAsync(senders, envelope);
        while (outcome.Kind == SendOutcomeKind.Confirmed);
        await killing;
        await rabbitMq.RestartAsync();

        outcome.Kind.Should().Be(SendOutcomeKind.TransportFailed);
        await Eventually.BecomesAsync(async () => (await SendPatientlyAsync(senders, envelope)).Kind == SendOutcomeKind.Confirmed, "the broker is back");
        await senders.WarmUpAsync(envelope);
    }

    [SkippableFact]
    public async Task A_channel_without_answers_is_replaced()
    {
        var direct = await Servers.RabbitMqVirtualHostAsync("stuck");
        await using var proxy = new TcpProxy(direct.Host, direct.Port);
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("stuck"), new UriBuilder(direct) { Host = "127.0.0.1", Port = proxy.Port }.Uri);
        await using var senders = await Senders.StartAsync(stack);
        var envelope = await senders.CaptureAsync(new OrderPlaced(Guid.NewGuid()));
        await senders.WarmUpAsync(envelope);

        proxy.Freeze();
        var stuck = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => SendPatientlyAsync(senders, envelope)));
        proxy.Thaw();

        stuck.Should().OnlyContain(outcome => outcome.Kind == SendOutcomeKind.TransportFailed);
        var detours = senders.Detours;
        (await senders.Direct.SendAsync(envelope, CancellationToken.None)).Should().Be(SendOutcome.Confirmed);
        senders.Detours.Should().Be(detours + 1, "what was known of the old channel is forgotten");
        await senders.WarmUpAsync(envelope);
    }

    [SkippableFact]
    public async Task A_broker_that_takes_no_more_makes_sends_wait_and_loses_none()
    {
        const int Messages = 3000;
        await using var rabbitMq = await Servers.PrivateRabbitMqAsync();
        await using var stack = Stack.Of(await Servers.PostgresDatabaseAsync("alarm"), await rabbitMq.CreateVirtualHostAsync("alarm"));
        await using var broker = await RawBroker.ConnectAsync(stack.Broker!);
        await broker.BindAsync(Queue, typeof(OrderPlaced));
        var arrived = await broker.CollectIdsAsync(Queue);
        await using var senders = await Senders.StartAsync(stack);
        var envelope = await senders.CaptureAsync(new OrderPlaced(Guid.NewGuid()));
        await senders.WarmUpAsync(envelope);

        await rabbitMq.ControlAsync("set_vm_memory_high_watermark", "0");
        // More than fits into the sockets' buffers.
        var sends = Enumerable.Range(0, Messages).Select(_ => SendAsync(Copy(envelope))).ToList();
        var outcomes = await Task.WhenAll(sends);
        await rabbitMq.ControlAsync("set_vm_memory_high_watermark", "0.6");

        outcomes.Count(sent => sent.Outcome.Kind == SendOutcomeKind.TransportFailed).Should().BeGreaterThan(Messages / 2);
        foreach (var failed in outcomes.Where(sent => sent.Outcome.Kind == SendOutcomeKind.TransportFailed))
            await Eventually.BecomesAsync(async () => (await SendPatientlyAsync(senders, failed.Envelope)).Kind == SendOutcomeKind.Confirmed, "it is sent again");
        await Eventually.BecomesAsync(
            () => Task.FromResult(arrived.ToHashSet()), ids => outcomes.All(sent => ids.Contains(sent.Envelope.MessageId.ToString())), "all have arrived");

        async Task<(Envelope Envelope, SendOutcome Outcome)> SendAsync(Envelope copy) => (copy, await SendPatientlyAsync(senders, copy));
    }

    private static Envelope Copy(Envelope envelope) => new()
    {
        MessageId = Guid.NewGuid(),
        MessageType = envelope.MessageType,
        ContentType = envelope.ContentType,
        Properties = envelope.Properties,
        Body = new byte[10_000],
    };

    // As delivery does it.
    private static async Task<SendOutcome> SendPatientlyAsync(Senders senders, Envelope envelope)
    {
        using var limit = new CancellationTokenSource(Patience);
        try
        {
            return await senders.Direct.SendAsync(envelope, limit.Token).WaitAsync(limit.Token);
        }
        catch (OperationCanceledException exception)
        {
            return SendOutcome.TransportFailed(exception);
        }
    }
}
