using System.Net.Mime;
using System.Security.Cryptography;
using MassTransit;
using MassTransit.Serialization;

namespace OutboxBus.EndToEnd.Tests.Support;

/// <summary>How messages are serialized: MassTransit's own ways, and two that treat a body or a header carelessly passed on as garbage.</summary>
public enum WireFormat
{
    /// <summary>MassTransit's envelope, its default.</summary>
    Json,

    /// <summary>The message alone; what the envelope would say travels in headers.</summary>
    RawJson,

    /// <summary>The message alone, and nothing else.</summary>
    BareJson,

    /// <summary>Bytes that are no text in any encoding.</summary>
    Binary,

    /// <summary>Encrypted; which key was used stands in a header.</summary>
    Encrypted,
}

internal static class WireFormats
{
    public static void Use(this IRabbitMqBusFactoryConfigurator transport, WireFormat format)
    {
        switch (format)
        {
            case WireFormat.RawJson:
                transport.UseRawJsonSerializer(RawSerializerOptions.Default);
                break;
            case WireFormat.BareJson:
                transport.UseRawJsonSerializer(RawSerializerOptions.AnyMessageType);
                break;
            case WireFormat.Binary:
                Add(transport, new BinarySerializer());
                break;
            case WireFormat.Encrypted:
                Add(transport, new EncryptingSerializer());
                break;
        }
    }

    private static void Add(IRabbitMqBusFactoryConfigurator transport, ISerializerFactory factory)
    {
        transport.AddSerializer(factory);
        transport.AddDeserializer(factory);
    }

    /// <summary>Every byte there is, then the message as raw JSON.</summary>
    private sealed class BinarySerializer : IMessageSerializer, IMessageDeserializer, ISerializerFactory
    {
        private static readonly byte[] Prefix = [.. Enumerable.Range(0, 256).Select(value => (byte)value)];
        private static readonly SystemTextJsonRawMessageSerializer Json = new();

        public ContentType ContentType { get; } = new("application/vnd.test+binary; version=\"2\"");

        public IMessageSerializer CreateSerializer() => this;

        public IMessageDeserializer CreateDeserializer() => this;

        public MessageBody GetMessageBody<T>(SendContext<T> context)
            where T : class => new BytesMessageBody([.. Prefix, .. Json.GetMessageBody(context).GetBytes()]);

        public ConsumeContext Deserialize(ReceiveContext receiveContext)
            => new BodyConsumeContext(receiveContext, Deserialize(receiveContext.Body, receiveContext.TransportHeaders, receiveContext.InputAddress));

        public SerializerContext Deserialize(MessageBody body, Headers headers, Uri? destinationAddress = null)
        {
            var bytes = body.GetBytes();
            if (!bytes.AsSpan().StartsWith(Prefix))
                throw new System.Runtime.Serialization.SerializationException("The body is not as it was written.");
            return Json.Deserialize(new BytesMessageBody(bytes[Prefix.Length..]), headers, destinationAddress);
        }

        public MessageBody GetMessageBody(string text) => new Base64MessageBody(text);

        public void Probe(ProbeContext context) => context.CreateScope("binary");
    }

    /// <summary>Sets its header as late as MassTransit's own encrypting serializer does: when the body is asked for its bytes.</summary>
    private sealed class EncryptingSerializer : IMessageSerializer, IMessageDeserializer, ISerializerFactory
    {
        private const string KeyHeader = "EncryptionKeyId";
        private static readonly SystemTextJsonRawMessageSerializer Json = new();
        private static readonly Dictionary<string, byte[]> Keys = new() { ["key 2026"] = RandomNumberGenerator.GetBytes(32) };

        public ContentType ContentType { get; } = new("application/vnd.test+aes");

        public IMessageSerializer CreateSerializer() => this;

        public IMessageDeserializer CreateDeserializer() => this;

        public MessageBody GetMessageBody<T>(SendContext<T> context)
            where T : class => new EncryptedBody(() =>
        {
            var (name, key) = Keys.Single();
            context.Headers.Set(KeyHeader, name);
            using var aes = Aes.Create();
            aes.Key = key;
            // The same for the same message, so that two sends can be compared.
            return aes.EncryptCbc(Json.GetMessageBody(context).GetBytes(), context.MessageId!.Value.ToByteArray());
        });

        public ConsumeContext Deserialize(ReceiveContext receiveContext)
            => new BodyConsumeContext(receiveContext, Deserialize(receiveContext.Body, receiveContext.TransportHeaders, receiveContext.InputAddress));

        public SerializerContext Deserialize(MessageBody body, Headers headers, Uri? destinationAddress = null)
        {
            using var aes = Aes.Create();
            aes.Key = Keys[headers.Get<string>(KeyHeader)!];
            var clear = aes.DecryptCbc(body.GetBytes(), Guid.Parse(headers.Get<string>(MessageHeaders.MessageId)!).ToByteArray());
            return Json.Deserialize(new BytesMessageBody(clear), headers, destinationAddress);
        }

        public MessageBody GetMessageBody(string text) => new Base64MessageBody(text);

        public void Probe(ProbeContext context) => context.CreateScope("aes");
    }

    private sealed class EncryptedBody(Func<byte[]> encrypt) : MessageBody
    {
        private readonly Lazy<byte[]> _bytes = new(encrypt);

        public long? Length => _bytes.Value.Length;

        public Stream GetStream() => new MemoryStream(GetBytes(), writable: false);

        public byte[] GetBytes() => _bytes.Value;

        public string GetString() => Convert.ToBase64String(GetBytes());
    }
}
