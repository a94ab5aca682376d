using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// MassTransit's futures are sagas of its own making: they ask others, gather the answers that come at once, and answer.
public sealed class Futures
{
    private const int Duplicate = 301;
    private const int Cakes = 8;

    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_future_asks_once_for_each_part_and_answers_when_it_has_all(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var party = Guid.NewGuid();

        var answer = await Client(app).GetResponse<PartyPlanned>(Plan(party, "plain"));

        answer.Message.Should().BeEquivalentTo(new PartyPlanned { PartyId = party, Cakes = Cakes });
        app.Probe.Of("bake").Select(sighting => sighting.What).Should().OnlyHaveUniqueItems().And.HaveCount(Cakes);
        (await stack.ReadAsync(db => db.Set<FutureState>().SingleAsync())).Completed.Should().NotBeNull();
        // A future is remembered: who asks later gets the same answer.
        (await Client(app).GetResponse<PartyPlanned>(Plan(party, "plain"))).Message.Cakes.Should().Be(Cakes);
        app.Probe.Of("bake").Should().HaveCount(Cakes);
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task A_future_one_part_of_which_fails_tells_of_that(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var party = Guid.NewGuid();

        var answer = await Client(app).GetResponse<PartyPlanned, PartySpoiled>(Plan(party, "burnt"));

        answer.Is(out Response<PartySpoiled>? spoiled).Should().BeTrue();
        spoiled!.Message.Should().BeEquivalentTo(new PartySpoiled { PartyId = party, Faults = 1 });
        (await stack.ReadAsync(db => db.Set<FutureState>().SingleAsync())).Faulted.Should().NotBeNull();
    }

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Copies_of_a_futures_command_ask_for_nothing(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await StartAsync(stack);
        var (plan, id) = (Plan(Guid.NewGuid(), "plain"), Guid.NewGuid());

        await Task.WhenAll(Enumerable.Range(0, 3).Select(_ => app.PublishDirectlyAsync(plan, id)));

        await Eventually.BecomesAsync(() => stack.ReadAsync(db => db.Set<FutureState>().CountAsync(future => future.Completed != null)), count => count == 1, "the future is complete");
        await Eventually.BecomesAsync(() => app.Logs.Count(Duplicate) == 2, "two copies were recognised");
        await stack.DrainedAsync();
        app.Probe.Of("bake").Should().HaveCount(Cakes);
    }

    private static Task<App> StartAsync(Stack stack) => App.StartMassTransitAsync(stack, bus =>
    {
        bus.AddFuture<PartyFuture>();
        bus.AddConsumer<BakeConsumer>();
    });

    private static IRequestClient<PlanParty> Client(App app)
        => app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30)).CreateRequestClient<PlanParty>();

    private static PlanParty Plan(Guid party, string last) => new()
    {
        PartyId = party,
        Cakes = [.. Enumerable.Range(1, Cakes).Select(number => new Cake { CakeId = Guid.NewGuid(), Kind = number == Cakes ? last : "plain" })],
    };

    public sealed record Cake
    {
        public Guid CakeId { get; init; }

        public string Kind { get; init; } = "";
    }

    public sealed record PlanParty
    {
        public Guid PartyId { get; init; }

        public Cake[] Cakes { get; init; } = [];
    }

    public sealed record PartyPlanned
    {
        public Guid PartyId { get; init; }

        public int Cakes { get; init; }
    }

    public sealed record PartySpoiled
    {
        public Guid PartyId { get; init; }

        public int Faults { get; init; }
    }

    public sealed record BakeCake
    {
        public Guid CakeId { get; init; }

        public string Kind { get; init; } = "";
    }

    public sealed record CakeBaked(Guid CakeId);

    public sealed class PartyFuture : Future<PlanParty, PartyPlanned, PartySpoiled>
    {
        public PartyFuture()
        {
            ConfigureCommand(command => command.CorrelateById(context => context.Message.PartyId));
            SendRequests<Cake, BakeCake>(party => party.Cakes, request =>
                {
                    request.UsingRequestFactory(context => new BakeCake { CakeId = context.Message.CakeId, Kind = context.Message.Kind });
                    request.TrackPendingRequest(bake => bake.CakeId);
                })
                .OnResponseReceived<CakeBaked>(response => response.CompletePendingRequest(baked => baked.CakeId));
            WhenAllCompleted(result => result.SetCompletedUsingFactory(context => new PartyPlanned { PartyId = context.Saga.CorrelationId, Cakes = context.Saga.Results.Count }));
            WhenAnyFaulted(fault => fault.SetFaultedUsingFactory(context => new PartySpoiled { PartyId = context.Saga.CorrelationId, Faults = context.Saga.Faults.Count }));
        }
    }

    public sealed class BakeConsumer(Probe probe) : IConsumer<BakeCake>
    {
        public Task Consume(ConsumeContext<BakeCake> context)
        {
            probe.Saw("bake", context.Message.CakeId);
            return context.Message.Kind == "burnt"
                ? throw new InvalidOperationException("Burnt.")
                : context.RespondAsync(new CakeBaked(context.Message.CakeId));
        }
    }
}
