using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.EndToEnd.Tests.Delivery;

public sealed class When_rows_are_corrupt
{
    private const string Sent = "";
    private const string Corrupt = nameof(DeadLetterReason.Corrupt);
    private const string Refused = nameof(DeadLetterReason.Refused);
    private const int TransportFailed = 208;

    private static readonly (string Damage, string Outcome)[] OnAnyEngine =
    [
        ("headers = '{'", Corrupt),
        ("headers = 'null'", Corrupt),
        ("headers = '[1, 2]'", Corrupt),
        ("headers = '{\"a\": [1]}'", Corrupt),
        ("headers = '{\"a\": 1.5}'", Corrupt),
        ("headers = '{\"a\": {\"type\": \"System.Type\", \"value\": \"x\"}}'", Corrupt),
        ("headers = '{\"a\": {\"type\": \"guid\", \"value\": \"x\"}}'", Corrupt),
        ("headers = '{\"a\": {}}'", Corrupt),
        ("properties = substr(properties, 1, length(properties) / 2)", Corrupt),
        ("properties = ''", Corrupt),
        ("properties = '7'", Corrupt),
        ("properties = '{\"conversationId\": 7}'", Corrupt),
        ("properties = '{\"messageTypes\": 7}'", Corrupt),
        ("properties = '{\"messageTypes\": [7]}'", Corrupt),
        ("properties = '{\"transport\": []}'", Corrupt),
        ("properties = '{\"transport\": {\"RMQ-Priority\": \"high\", \"Durable\": \"no idea\"}}'", Sent),
        ("content_type = ''", Corrupt),
        ("content_type = 'no content type'", Corrupt),
        ("destination = 'nowhere'", Corrupt),
        ("destination = '://'", Corrupt),
        ("destination = 'http://elsewhere/queue'", Refused),
    ];

    private static readonly (string Damage, string Outcome)[] OnPostgreSql =
    [
        ("created_at = '100000-01-01'", Corrupt),
        ("due_at = '4000-01-01 BC'", Corrupt),
        ("created_at = '-infinity'", Sent),
    ];

    // Its columns take any type.
    private static readonly (string Damage, string Outcome)[] OnSqlite =
    [
        ("created_at = 9223372036854775807", Corrupt),
        ("schedule_token = 'no id'", Corrupt),
        ("headers = x'00ff'", Corrupt),
        ("properties = 7", Corrupt),
        ("attempts = 'often'", Sent),
    ];

    [SkippableTheory]
    [InlineData(StackKind.PostgreSqlRabbitMq)]
    [InlineData(StackKind.SqliteInMemory)]
    public async Task Each_comes_to_its_own_end_and_holds_up_nobody(StackKind kind)
    {
        (string Damage, string Outcome)[] damages = [.. OnAnyEngine, .. kind == StackKind.SqliteInMemory ? OnSqlite : OnPostgreSql];
        await using var stack = await Stack.CreateAsync(kind);
        var sound = new List<Guid>();
        await using (var publisher = await App.StartAsync(stack, bus => bus.Delivery(delivery => delivery.Enabled = false)))
        {
            foreach (var (damage, _) in damages)
            {
                await publisher.PublishAsync(new OrderPlaced(Guid.NewGuid()));
                await stack.ExecuteAsync($"update outbox_message set {damage} where id = (select max(id) from outbox_message)");
                sound.Add(Guid.NewGuid());
                await publisher.PublishAsync(new OrderPlaced(sound[^1]));
            }
        }

        var damaged = (await stack.ReadAsync(db => db.Outbox.OrderBy(row => row.Id).Select(row => row.Id).ToListAsync())).Where((_, row) => row % 2 == 0).ToList();
        await using var app = await App.StartAsync(stack, bus =>
        {
            bus.AddHandler<SeenHandler>();
            bus.Delivery(delivery => delivery.MaxAttempts = 2);
        });

        await stack.DrainedAsync();
        await Eventually.BecomesAsync(() => sound.All(order => app.Probe.All.Any(sighting => order.Equals(sighting.What))), "the sound ones have arrived");
        var letters = await stack.ReadAsync(db => db.DeadLetters.Select(letter => new { letter.OutboxId, letter.Reason }).ToDictionaryAsync(letter => letter.OutboxId, letter => letter.Reason));
        damages.Select((damage, row) => (damage.Damage, letters.GetValueOrDefault(damaged[row], Sent))).Should().Equal(damages);
        letters.Keys.Should().BeSubsetOf(damaged);
        app.Logs.Count(TransportFailed).Should().Be(0, "a row is no reason to doubt the broker");
    }
}

public sealed class SeenHandler(Probe probe) : IMessageHandler<OrderPlaced>
{
    public Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
    {
        probe.Saw(nameof(SeenHandler), message.OrderId);
        return Task.CompletedTask;
    }
}
