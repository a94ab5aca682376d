using FluentAssertions;
using MassTransit;
using MassTransit.Contracts.JobService;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.EndToEnd.Tests.Sagas.Support;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Sagas;

// MassTransit's job consumers are run by three sagas of its own making. The job itself runs outside any transaction.
public sealed class Jobs
{
    public static TheoryData<StackKind, InboxMode> Stacks => new()
    {
        { StackKind.PostgreSqlRabbitMq, InboxMode.First },
        { StackKind.PostgreSqlRabbitMq, InboxMode.Last },
        { StackKind.SqliteInMemory, InboxMode.First },
    };

    [SkippableTheory]
    [MemberData(nameof(Stacks))]
    public async Task Jobs_are_accepted_started_retried_and_completed(StackKind kind, InboxMode mode)
    {
        await using var stack = await SagaModel.CreateStackAsync(kind, mode);
        await using var app = await App.StartMassTransitAsync(stack, bus =>
        {
            bus.AddConsumer<CrunchConsumer>(consumer => consumer.Options<JobOptions<Crunch>>(job => job.SetRetry(retry => retry.Immediate(1)).SetConcurrentJobLimit(10)));
            bus.SetJobConsumerOptions();
            bus.AddJobSagaStateMachines(options => options.SlotWaitTime = TimeSpan.FromSeconds(1));
            bus.Watch<JobCompleted<Crunch>>();
        });
        var client = app.Services.GetRequiredService<IBus>().CreateClientFactory(RequestTimeout.After(s: 30)).CreateRequestClient<SubmitJob<Crunch>>();

        for (var number = 1; number <= 3; number++)
            await client.GetResponse<JobSubmissionAccepted>(new { JobId = NewId.NextGuid(), Job = new { Number = number } });

        await app.Probe.SeesAsync<JobCompleted<Crunch>>(3);
        await app.SettledAsync(stack);
        app.Probe.Of("crunch").Select(sighting => sighting.What).Should().BeEquivalentTo([(1, 0), (2, 0), (2, 1), (3, 0)]);
        app.Probe.Seen<JobCompleted<Crunch>>().Select(completed => completed.Job.Number).Should().BeEquivalentTo([1, 2, 3]);
    }

    public sealed record Crunch
    {
        public int Number { get; init; }
    }

    public sealed class CrunchConsumer(Probe probe) : IJobConsumer<Crunch>
    {
        public Task Run(JobContext<Crunch> context)
        {
            probe.Saw("crunch", (context.Job.Number, context.RetryAttempt));
            return context.Job.Number == 2 && context.RetryAttempt == 0 ? throw new InvalidOperationException("The first attempt fails.") : Task.CompletedTask;
        }
    }
}
