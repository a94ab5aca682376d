using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// Sagas without a state machine: classes that consume the messages of their own instances.
public sealed class ConsumerSagas
{
    private const int Duplicate = 301;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_saga_is_initiated_orchestrated_and_observes_in_the_transaction_of_each_message(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (small, large, noted) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());

        await MoveAsync(app, new PaymentAsked(small, 1), moves: 1);
        await MoveAsync(app, new PaymentAsked(large, 100), moves: 2);
        await MoveAsync(app, new PaymentReceived(small, 1), moves: 3);
        await MoveAsync(app, new PaymentNoted(small, 2), moves: 4);
        await MoveAsync(app, new PaymentNoted(noted, 3), moves: 5);
        await MoveAsync(app, new RateChanged(Threshold: 50), moves: 6);
        await app.SettledAsync(stack);

        app.Probe.Seen<PaymentMoved>().Should().Equal(
            new PaymentMoved(small, 1, 0), new PaymentMoved(large, 100, 0), new PaymentMoved(small, 1, 1), new PaymentMoved(small, 1, 3), new PaymentMoved(noted, 0, 3), new PaymentMoved(large, 101, 0));
        (await stack.ReadAsync(db => db.Set<PaymentSaga>().OrderBy(saga => saga.Asked).Select(saga => saga.CorrelationId).ToListAsync())).Should().Equal(noted, small, large);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_message_that_fails_leaves_the_saga_as_it_was_and_one_that_succeeds_at_last_counts_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack, retries: 1);
        var (payment, unborn) = (Guid.NewGuid(), Guid.NewGuid());

        await app.PublishAsync(new PaymentAsked(unborn, 1, FailingAttempts: 2));
        await app.Probe.SeesAsync<Fault<PaymentAsked>>();
        await MoveAsync(app, new PaymentAsked(payment, 1, FailingAttempts: 1), moves: 1);
        await app.PublishAsync(new PaymentReceived(payment, 5, FailingAttempts: 2));
        await app.Probe.SeesAsync<Fault<PaymentReceived>>();
        await MoveAsync(app, new PaymentReceived(payment, 7, FailingAttempts: 1), moves: 2);
        await app.SettledAsync(stack);

        app.Probe.Seen<PaymentMoved>().Should().Equal(new PaymentMoved(payment, 1, 0), new PaymentMoved(payment, 1, 7));
        app.Probe.Seen<Fault<PaymentAsked>>().Should().ContainSingle();
        app.Probe.Seen<Fault<PaymentReceived>>().Should().ContainSingle();
        (await stack.ReadAsync(db => db.Set<PaymentSaga>().SingleAsync())).Received.Should().Be(7);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_message_for_the_wrong_saga_fails_and_changes_nothing(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var payment = Guid.NewGuid();
        await MoveAsync(app, new PaymentAsked(payment, 1), moves: 1);

        await app.PublishAsync(new PaymentAsked(payment, 1));
        await app.Probe.SeesAsync<Fault<PaymentAsked>>();
        await app.PublishAsync(new PaymentReceived(Guid.NewGuid(), 1));
        await app.Probe.SeesAsync<Fault<PaymentReceived>>();

        await MoveAsync(app, new PaymentReceived(payment, 1), moves: 2);
        await app.SettledAsync(stack);
        app.Probe.Seen<PaymentMoved>().Should().Equal(new PaymentMoved(payment, 1, 0), new PaymentMoved(payment, 1, 1));
        (await stack.ReadAsync(db => db.Set<PaymentSaga>().CountAsync())).Should().Be(1);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Copies_of_a_message_count_once(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var payment = Guid.NewGuid();

        await CopyAsync(app, new PaymentAsked(payment, 1), duplicates: 2);
        await CopyAsync(app, new PaymentReceived(payment, 1), duplicates: 4);
        await CopyAsync(app, new RateChanged(Threshold: 1), duplicates: 6);

        await app.Probe.SeesAsync<PaymentMoved>(3);
        await app.SettledAsync(stack);
        app.Probe.Seen<PaymentMoved>().Should().Equal(new PaymentMoved(payment, 1, 0), new PaymentMoved(payment, 1, 1), new PaymentMoved(payment, 2, 1));
        app.Probe.Seen<Fault<PaymentAsked>>().Should().BeEmpty();
    }

    private static Task<App> StartAsync(Stack stack, int retries = 0) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddSaga<PaymentSaga>(saga =>
        {
            if (retries > 0)
                saga.UseMessageRetry(retry => retry.Immediate(retries));
        });
        bus.Watch<PaymentMoved>();
        bus.Watch<Fault<PaymentAsked>>();
        bus.Watch<Fault<PaymentReceived>>();
    });

    private static async Task MoveAsync<T>(App app, T message, int moves)
        where T : class
    {
        await app.PublishAsync(message);
        await app.Probe.SeesAsync<PaymentMoved>(moves);
    }

    private static async Task CopyAsync<T>(App app, T message, int duplicates)
        where T : class
    {
        var id = Guid.NewGuid();
        for (var copy = 0; copy < 3; copy++)
            await app.PublishDirectlyAsync(message, id);
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == duplicates, $"{duplicates} copies were recognised");
    }
}
