using FluentAssertions;
using MassTransit;
using OutboxBus.MassTransit.Delivery;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Delivery;

public sealed class MessageTypesTests
{
    private readonly RecordingProvider _bus = new();

    [Fact]
    public void Published_type_is_known_from_then_on()
    {
        var types = new MessageTypes([]);
        Find(types, MessageUrn.ForTypeString<Happened>()).Should().BeNull();

        types.Add<Happened>();

        Find(types, MessageUrn.ForTypeString<Happened>()).Should().Be<Happened>();
    }

    [Fact]
    public void Types_of_the_assembly_are_known_before_anything_is_published()
    {
        var types = new MessageTypes([KnownTypes.OfAssembly(typeof(Happened).Assembly)]);

        Find(types, MessageUrn.ForTypeString<Happened>()).Should().Be<Happened>();
        Find(types, MessageUrn.ForTypeString<IHappened>()).Should().Be<IHappened>();
        // Asked for again, it comes from memory.
        Find(types, MessageUrn.ForTypeString<Happened>()).Should().Be<Happened>();
    }

    [Fact]
    public void Constructed_generic_type_is_known_once_it_is_named()
    {
        var urn = MessageUrn.ForTypeString<Wrapped<Happened>>();

        Find(new MessageTypes([KnownTypes.OfAssembly(typeof(Happened).Assembly)]), urn).Should().BeNull();
        Find(new MessageTypes([KnownTypes.Of(typeof(Wrapped<Happened>))]), urn).Should().Be<Wrapped<Happened>>();
    }

    [Theory]
    [InlineData("urn:message:Nobody:Knows")]
    [InlineData("")]
    [InlineData("System.Diagnostics.Process, System.Diagnostics.Process")]
    [InlineData("urn:message:System.Diagnostics:Process")]
    [InlineData("OutboxBus.MassTransit.Tests.Delivery.MessageTypesTests+Happened, OutboxBus.MassTransit.Tests")]
    public void Stored_name_never_loads_a_type(string messageType)
    {
        var types = new MessageTypes([KnownTypes.OfAssembly(typeof(Happened).Assembly)]);

        Find(types, messageType).Should().BeNull();
    }

    [Fact]
    public void Framework_assemblies_hold_no_messages()
    {
        var types = KnownTypes.OfAssembly(typeof(Happened).Assembly).Find().Select(type => type.Assembly.GetName().Name).Distinct();

        types.Should().Contain("OutboxBus.MassTransit.Tests").And.NotContain(name => name!.StartsWith("System", StringComparison.Ordinal) || name.StartsWith("MassTransit", StringComparison.Ordinal));
    }

    private Type? Find(MessageTypes types, string messageType)
    {
        _bus.Asked = null;
        var found = types.FindPublishEndpoint(messageType, _bus);
        return found is null ? null : _bus.Asked;
    }

    public sealed class Happened : IHappened;

    public interface IHappened;

    public sealed class Wrapped<T>
    {
        public T? Inner { get; init; }
    }

    private sealed class RecordingProvider : IPublishEndpointProvider
    {
        public Type? Asked { get; set; }

        public ConnectHandle ConnectPublishObserver(IPublishObserver observer) => throw new NotSupportedException();

        public Task<ISendEndpoint> GetPublishSendEndpoint<T>()
            where T : class
        {
            Asked = typeof(T);
            return Task.FromResult<ISendEndpoint>(null!);
        }
    }
}
