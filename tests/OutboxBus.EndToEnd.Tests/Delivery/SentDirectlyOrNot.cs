using System.Collections.Concurrent;
using System.Diagnostics;
using FluentAssertions;
using MassTransit;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Diagnostics;
using OutboxBus.EndToEnd.Tests.Support;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

/// <summary>What MassTransit has to send itself, and how it ends for a message that RabbitMQ does not take.</summary>
[Collection(TracesOfMassTransit.Name)]
public sealed class SentDirectlyOrNot
{
    private static readonly Dictionary<string, (string Address, Action<SendContext> Set)> Unusual = new()
    {
        ["an exchange that goes with its last consumer"] = ("exchange:answers?temporary=true", static _ => { }),
        ["an exchange that does not survive the broker"] = ("exchange:volatile?durable=false", static _ => { }),
        ["another name each time"] = ("queue:*", static _ => { }),
        ["a header that the client may refuse"] = ("queue:plain", static context => context.Headers.Set("price", 12.5m)),
        ["an address of another host"] = ("rabbitmq://elsewhere/plain", static _ => { }),
    };

    public static TheoryData<string> UnusualOnes => [.. Unusual.Keys];

    [SkippableTheory]
    [MemberData(nameof(UnusualOnes))]
    public async Task What_is_not_plain_is_sent_by_MassTransit(string what)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var senders = await Senders.StartAsync(stack);
        var message = new OrderPlaced(Guid.NewGuid());
        await senders.WarmUpAsync(await senders.CaptureAsync("queue:plain", message));
        var (address, set) = Unusual[what];
        var envelope = await senders.CaptureAsync("queue:plain", message, set);
        envelope.Destination = address;

        for (var time = 1; time <= 4; time++)
        {
            var detours = senders.Detours;
            var outcome = await senders.Direct.SendAsync(envelope, CancellationToken.None);
            outcome.Kind.Should().Be(SendOutcomeKind.Confirmed);
            senders.Detours.Should().Be(detours + 1);
        }
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Nothing_goes_past_a_filter_of_the_application(bool ofPublishes)
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        var filtered = 0;
        stack.ConfigureRabbitMq = transport =>
        {
            if (ofPublishes)
                transport.ConfigurePublish(publish => publish.UseExecute(_ => Interlocked.Increment(ref filtered)));
            else
                transport.ConfigureSend(send => send.UseExecute(_ => Interlocked.Increment(ref filtered)));
        };
        await using var senders = await Senders.StartAsync(stack);
        var message = new OrderPlaced(Guid.NewGuid());
        var envelope = ofPublishes ? await senders.CaptureAsync(message) : await senders.CaptureAsync("queue:plain", message);
        var atCapture = filtered;

        for (var time = 1; time <= 4; time++)
            await senders.Direct.SendAsync(envelope, CancellationToken.None);

        filtered.Should().Be(atCapture + 4);
    }

    [SkippableFact]
    public async Task Nothing_goes_past_an_observer_of_the_application_while_it_observes()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var senders = await Senders.StartAsync(stack);
        var envelope = await senders.CaptureAsync("queue:plain", new OrderPlaced(Guid.NewGuid()));
        await senders.WarmUpAsync(envelope);
        var observer = new CountingObserver();

        var connection = senders.DirectApp.Services.GetRequiredService<IBus>().ConnectSendObserver(observer);
        for (var time = 1; time <= 3; time++)
            await senders.Direct.SendAsync(envelope, CancellationToken.None);
        connection.Disconnect();
        var detours = senders.Detours;
        await senders.Direct.SendAsync(envelope, CancellationToken.None);

        observer.Sent.Should().Be(3);
        senders.Detours.Should().Be(detours);
    }

    [SkippableFact]
    public async Task Nothing_goes_past_a_registered_observer()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        var observer = new CountingObserver();
        await using var senders = await Senders.StartAsync(stack, services => services.AddSendObserver(_ => observer));
        var envelope = await senders.CaptureAsync("queue:plain", new OrderPlaced(Guid.NewGuid()));

        for (var time = 1; time <= 4; time++)
            await senders.Direct.SendAsync(envelope, CancellationToken.None);

        observer.Sent.Should().Be(4);
    }

    [SkippableFact]
    public async Task Traces_of_MassTransit_stay_whole_and_those_of_the_outbox_are_the_same()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var senders = await Senders.StartAsync(stack);
        var envelope = await senders.CaptureAsync(new OrderPlaced(Guid.NewGuid()));
        envelope.Headers = """{"MT-Activity-Id":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}""";
        await senders.WarmUpAsync(envelope);

        var detours = senders.Detours;
        var direct = await SpansAsync(ActivitySamplingResult.PropagationData);
        senders.Detours.Should().Be(detours, "nobody records MassTransit's span");
        var all = await SpansAsync(ActivitySamplingResult.AllDataAndRecorded);

        senders.Detours.Should().Be(detours + 1);
        all.Should().Contain(span => span.Source.Name == "MassTransit");
        var over = all.Single(span => span.Source.Name == OutboxBusTelemetry.Name);
        direct.Should().ContainSingle();
        direct[0].TagObjects.Should().BeEquivalentTo(over.TagObjects);
        direct[0].Links.Should().ContainSingle().Which.Context.TraceId.ToString().Should().Be("0af7651916cd43dd8448eb211c80319c");

        async Task<List<Activity>> SpansAsync(ActivitySamplingResult ofMassTransit)
        {
            var spans = new ConcurrentQueue<Activity>();
            using var listener = new ActivityListener();
            listener.ShouldListenTo = source => source.Name is OutboxBusTelemetry.Name or "MassTransit";
            listener.Sample = (ref ActivityCreationOptions<ActivityContext> span) => span.Source.Name == OutboxBusTelemetry.Name ? ActivitySamplingResult.AllDataAndRecorded : ofMassTransit;
            listener.ActivityStopped = spans.Enqueue;
            ActivitySource.AddActivityListener(listener);
            (await senders.Direct.SendAsync(envelope, CancellationToken.None)).Should().Be(SendOutcome.Confirmed);
            var id = envelope.MessageId.ToString();
            return [.. spans.Where(span => span.TagObjects.Any(tag => tag.Value?.ToString() == id))];
        }
    }

    [SkippableFact]
    public async Task A_message_that_must_have_a_route_and_has_none_is_refused_alone()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var senders = await Senders.StartAsync(stack);
        var message = new OrderPlaced(Guid.NewGuid());
        var good = await senders.CaptureAsync(message);
        await senders.WarmUpAsync(good);
        var unroutable = await senders.CaptureAsync(message, context => context.Mandatory = true);
        var detours = senders.Detours;

        var sends = Enumerable.Range(0, 50).Select(number => senders.Direct.SendAsync(number % 5 == 0 ? unroutable : good, CancellationToken.None)).ToList();
        var outcomes = await Task.WhenAll(sends);

        senders.Detours.Should().Be(detours);
        outcomes.Where((_, number) => number % 5 != 0).Should().AllBeEquivalentTo(SendOutcome.Confirmed);
        var over = await senders.MassTransit.SendAsync(unroutable, CancellationToken.None);
        over.Kind.Should().Be(SendOutcomeKind.Refused);
        outcomes.Where((_, number) => number % 5 == 0).Should().OnlyContain(outcome => outcome.Kind == over.Kind && outcome.Error!.GetType() == over.Error!.GetType() && outcome.Error.Message == over.Error.Message);
    }

    [SkippableFact]
    public async Task Rows_that_are_no_message_have_the_same_outcome()
    {
        await using var stack = await Stack.PostgreSqlAndRabbitMqAsync();
        await using var senders = await Senders.StartAsync(stack);
        var message = new OrderPlaced(Guid.NewGuid());
        await senders.WarmUpAsync(await senders.CaptureAsync(message));
        foreach (var damage in (Action<Envelope>[])[
            envelope => envelope.Headers = "{",
            envelope => envelope.Properties = """{"requestId":"x"}""",
            envelope => envelope.ContentType = "none",
            envelope => envelope.Destination = "no address",
            envelope => envelope.MessageType = "urn:message:Nobody:Knows"])
        {
            var envelope = await senders.CaptureAsync(message);
            damage(envelope);

            var over = await senders.MassTransit.SendAsync(envelope, CancellationToken.None);
            var direct = await senders.Direct.SendAsync(envelope, CancellationToken.None);

            direct.Kind.Should().Be(over.Kind).And.NotBe(SendOutcomeKind.Confirmed);
        }
    }

    private sealed class CountingObserver : ISendObserver
    {
        private int _sent;

        public int Sent => _sent;

        public Task PreSend<T>(SendContext<T> context)
            where T : class => Task.CompletedTask;

        public Task PostSend<T>(SendContext<T> context)
            where T : class
        {
            Interlocked.Increment(ref _sent);
            return Task.CompletedTask;
        }

        public Task SendFault<T>(SendContext<T> context, Exception exception)
            where T : class => Task.CompletedTask;
    }
}
