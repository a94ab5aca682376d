using System.Runtime.Serialization;
using System.Text.Json;
using FluentAssertions;
using MassTransit;
using OutboxBus.MassTransit.Delivery;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Delivery;

public sealed class TransportErrorsTests
{
    private static readonly Uri Address = new("loopback://localhost/queue");

    public static TheoryData<Exception, SendOutcomeKind> Errors => new()
    {
        { new ConnectionException("down"), SendOutcomeKind.TransportFailed },
        { new TransportUnavailableException("down"), SendOutcomeKind.TransportFailed },
        { new TransportException(Address, "down"), SendOutcomeKind.TransportFailed },
        { new IOException("reset"), SendOutcomeKind.TransportFailed },
        { new TimeoutException("slow"), SendOutcomeKind.TransportFailed },
        { new OperationCanceledException("its own"), SendOutcomeKind.TransportFailed },
        { new ObjectDisposedException("channel"), SendOutcomeKind.TransportFailed },
        { new InvalidOperationException("unknown"), SendOutcomeKind.TransportFailed },
        { new MassTransitException("unroutable"), SendOutcomeKind.Refused },
        { new ConfigurationException("topology"), SendOutcomeKind.Refused },
        { new ArgumentNullException("address"), SendOutcomeKind.Refused },
        { new UriFormatException("address"), SendOutcomeKind.Refused },
        { new NotSupportedException("type"), SendOutcomeKind.Refused },
        { new NotImplementedException("type"), SendOutcomeKind.Refused },
        { new JsonException("body"), SendOutcomeKind.Refused },
        { new SerializationException("body"), SendOutcomeKind.Refused },
    };

    [Theory]
    [MemberData(nameof(Errors), DisableDiscoveryEnumeration = true)]
    public void Only_what_is_known_to_be_the_messages_fault_is_charged_to_it(Exception exception, SendOutcomeKind kind)
        => TransportErrors.Classify(exception).Should().Be(new SendOutcome(kind, exception));
}
