using System.Text;
using FluentAssertions;
using RabbitMQ.Client;
using Xunit;

namespace OutboxBus.TestServers.Tests;

public sealed class RabbitMqServerTests
{
    [SkippableFact]
    public async Task Fresh_virtual_hosts_are_usable_and_separate()
    {
        var one = await Servers.RabbitMqVirtualHostAsync("Fixture.One");
        var other = await Servers.RabbitMqVirtualHostAsync("Fixture.One");
        other.Should().NotBe(one);

        await PublishAsync(one, "queue", "hello");
        await PublishAsync(other, "queue", "elsewhere");

        (await GetAsync(one, "queue")).Should().Be("hello");
        (await GetAsync(one, "queue")).Should().BeNull();
    }

    [SkippableFact]
    public async Task A_confirmed_persistent_message_survives_a_kill()
    {
        await using var server = await Servers.PrivateRabbitMqAsync();
        var host = await server.CreateVirtualHostAsync("kill");
        await PublishAsync(host, "durable", "kept");
        // The broker writes a declaration to its log somewhat later than it answers.
        await server.ControlAsync("eval", "mnesia:sync_log().");

        await server.KillAsync();

        await FluentActions.Awaiting(() => GetAsync(host, "durable")).Should().ThrowAsync<Exception>();
        await server.RestartAsync();
        (await GetAsync(host, "durable")).Should().Be("kept");
    }

    [SkippableFact]
    public async Task The_broker_can_be_controlled_and_its_folder_goes_with_it()
    {
        string folder;
        await using (var server = await Servers.PrivateRabbitMqAsync())
        {
            await server.CreateVirtualHostAsync("controlled");
            (await server.ControlAsync("list_vhosts")).Should().Contain("controlled");
            folder = server.Folder;
            Directory.Exists(folder).Should().BeTrue();
            await server.StopAsync();
        }

        Directory.Exists(folder).Should().BeFalse();
    }

    private static async Task PublishAsync(Uri host, string queue, string text)
    {
        await using var connection = await new ConnectionFactory { Uri = host }.CreateConnectionAsync();
        await using var channel = await connection.CreateChannelAsync(
            new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true));
        await channel.QueueDeclareAsync(queue, durable: true, exclusive: false, autoDelete: false);
        await channel.BasicPublishAsync("", queue, mandatory: true, new BasicProperties { Persistent = true }, Encoding.UTF8.GetBytes(text));
    }

    private static async Task<string?> GetAsync(Uri host, string queue)
    {
        await using var connection = await new ConnectionFactory { Uri = host }.CreateConnectionAsync();
        await using var channel = await connection.CreateChannelAsync();
        var message = await channel.BasicGetAsync(queue, autoAck: true);
        return message is null ? null : Encoding.UTF8.GetString(message.Body.Span);
    }
}
