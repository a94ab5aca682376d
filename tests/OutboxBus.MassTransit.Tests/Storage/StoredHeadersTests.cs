using System.Text.Json;
using CsCheck;
using FluentAssertions;
using OutboxBus.MassTransit.Storage;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Storage;

public sealed class StoredHeadersTests
{
    // Quotes, controls, the null character, line separators, right-to-left marks, astral characters, JSON and SQL inside.
    private static readonly Gen<string> Text = Gen.Frequency(
        (4, Gen.String),
        (1, Among("", " ", "\0", "\"", "\\", "\\u0000", "\r\n\t\b", "\u2028\u2029", "\u202eabc", "𝕊👩‍👩‍👧", "{\"type\":\"long\",\"value\":\"1\"}", "'; drop table outbox_message; --", "null", "</script>", "\uFEFF")),
        (2, Gen.Char['\0', '\uD7FF'].Array[0, 50].Select(characters => new string(characters))));

    private static readonly Gen<object> Value = Gen.OneOf(
        Text.Select(value => (object)value),
        Gen.Bool.Select(value => (object)value),
        Gen.Int.Select(value => (object)value),
        Gen.Byte.Select(value => (object)value),
        Gen.SByte.Select(value => (object)value),
        Gen.Short.Select(value => (object)value),
        Gen.UShort.Select(value => (object)value),
        Gen.UInt.Select(value => (object)value),
        Gen.Long.Select(value => (object)value),
        Gen.ULong.Select(value => (object)value),
        Gen.Float.Select(value => (object)value),
        Gen.Double.Select(value => (object)value),
        Gen.Decimal.Select(value => (object)value),
        Gen.Guid.Select(value => (object)value),
        Gen.Select(Gen.DateTime, Among(DateTimeKind.Utc, DateTimeKind.Unspecified), (time, kind) => (object)DateTime.SpecifyKind(time, kind)),
        Gen.DateTimeOffset.Select(value => (object)value),
        Gen.TimeSpan.Select(value => (object)value),
        Gen.Byte.Array[0, 100].Select(value => (object)value),
        Text.Array[0, 3].Select(value => (object)value));

    private static readonly Gen<Dictionary<string, object>> Headers = Gen.Dictionary(Text, Value)[0, 8];

    [Fact]
    public void Every_value_comes_back_with_its_type() => Headers.Sample(headers =>
    {
        var back = StoredHeaders.Parse(StoredHeaders.ToJson(headers));

        return back.Count == headers.Count && headers.All(header => back.TryGetValue(header.Key, out var value) && Same(header.Value, value));
    });

    [Fact]
    public void Stored_text_is_the_same_again() => Headers.Sample(headers =>
    {
        var json = StoredHeaders.ToJson(headers);

        return StoredHeaders.ToJson(StoredHeaders.Parse(json)) == json;
    });

    [Fact]
    public void Stored_text_has_no_character_a_database_refuses()
        => Headers.Sample(headers => StoredHeaders.ToJson(headers)?.Contains('\0', StringComparison.Ordinal) != true);

    public static TheoryData<object> Limits =>
    [
        int.MinValue, int.MaxValue, long.MinValue, long.MaxValue, ulong.MaxValue, uint.MaxValue, byte.MaxValue, sbyte.MinValue, short.MinValue, ushort.MaxValue,
        float.MaxValue, float.Epsilon, float.NaN, float.NegativeInfinity, double.MinValue, double.Epsilon, double.NaN, double.PositiveInfinity, -0.0,
        decimal.MaxValue, decimal.MinValue, 1.10m, DateTime.MinValue, DateTime.MaxValue, DateTimeOffset.MinValue, DateTimeOffset.MaxValue, TimeSpan.MinValue, TimeSpan.MaxValue, Guid.Empty, Array.Empty<byte>(),
    ];

    [Theory]
    [MemberData(nameof(Limits), DisableDiscoveryEnumeration = true)]
    public void Limits_of_types_come_back(object value)
    {
        var back = StoredHeaders.Parse(StoredHeaders.ToJson(new Dictionary<string, object> { ["x"] = value }))["x"];

        Same(value, back).Should().BeTrue($"{back} is to be {value}");
    }

    [Theory]
    [InlineData("rabbitmq://host/my%2Fvhost/queue")]
    [InlineData("rabbitmq://user:p%40ss%3Aword@host/queue")]
    [InlineData("queue:stock%3Fbind%3Dtrue")]
    [InlineData("loopback://localhost/a%20b%25c")]
    [InlineData("http://host/%E2%82%AC?q=%26#frag")]
    [InlineData("loopback://localhost/a%23b%5Cc%22d%7Be")]
    [InlineData("loopback://localhost/a%2525b%253F")]
    [InlineData("queue:caf%C3%A9%E2%80%AE")]
    [InlineData("rabbitmq://us%2Fer:p%23w@host/%2F/queue")]
    [InlineData("relative/path")]
    public void Addresses_come_back_letter_for_letter(string address)
    {
        var uri = new Uri(address, UriKind.RelativeOrAbsolute);

        var back = StoredHeaders.Parse(StoredHeaders.ToJson(new Dictionary<string, object> { ["x"] = uri }))["x"].Should().BeOfType<Uri>().Which;

        back.Should().Be(uri);
        (back.IsAbsoluteUri ? back.AbsoluteUri : back.ToString()).Should().Be(uri.IsAbsoluteUri ? uri.AbsoluteUri : uri.ToString());
    }

    [Fact]
    public void Half_of_a_surrogate_pair_becomes_the_replacement_character_as_on_the_wire()
        => StoredHeaders.Parse(StoredHeaders.ToJson(new Dictionary<string, object> { ["x"] = "a\uD800b" }))["x"].Should().Be("a\uFFFDb");

    [Fact]
    public void Objects_come_back_as_JSON()
    {
        var back = StoredHeaders.Parse(StoredHeaders.ToJson(new Dictionary<string, object> { ["x"] = new { A = 1 } }))["x"];

        back.Should().BeOfType<JsonElement>().Which.GetProperty("A").GetInt32().Should().Be(1);
    }

    [Fact]
    public void No_headers_are_stored_as_null_and_null_values_not_at_all()
    {
        StoredHeaders.ToJson([]).Should().BeNull();
        StoredHeaders.ToJson(new Dictionary<string, object> { ["x"] = null! }).Should().BeNull();
        StoredHeaders.Parse(null).Should().BeEmpty();
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("""{"a":null}""")]
    [InlineData("""{"a":[1]}""")]
    [InlineData("""{"a":1.5}""")]
    [InlineData("""{"a":99999999999}""")]
    [InlineData("""{"a":{}}""")]
    [InlineData("""{"a":{"type":"long"}}""")]
    [InlineData("""{"a":{"type":"long","value":"x"}}""")]
    [InlineData("""{"a":{"type":"byte","value":"256"}}""")]
    [InlineData("""{"a":{"type":"System.Diagnostics.Process, System","value":"x"}}""")]
    [InlineData("""{"a":{"type":null,"value":"x"}}""")]
    [InlineData("""{"a":{"type":"bytes","value":"not base64"}}""")]
    [InlineData("""{"a":{"type":"bytes","value":null}}""")]
    [InlineData("""{"a":{"type":"json","value":"{"}}""")]
    [InlineData("""{"a":{"type":"datetime","value":"yesterday"}}""")]
    public void Damaged_text_is_an_error_that_delivery_knows_as_corrupt(string json)
        => FluentActions.Invoking(() => StoredHeaders.Parse(json)).Should().Throw<Exception>()
            .Which.Should().Match(exception => IsKnownAsCorrupt((Exception)exception));

    [Theory]
    [InlineData("byte")]
    [InlineData("long")]
    [InlineData("double")]
    [InlineData("decimal")]
    [InlineData("guid")]
    [InlineData("datetime")]
    [InlineData("timespan")]
    [InlineData("bytes")]
    [InlineData("json")]
    [InlineData("unknown")]
    public void Error_names_the_header_but_never_its_value(string type)
    {
        var parse = () => StoredHeaders.Parse($$$"""{"token":{"type":"{{{type}}}","value":"canary"}}""");

        parse.Should().Throw<FormatException>().Which.ToString().Should().Contain("token").And.Contain(type).And.NotContain("canary");
    }

    // As the sender catches them.
    private static bool IsKnownAsCorrupt(Exception exception)
        => exception is JsonException or FormatException or ArgumentException or OverflowException or KeyNotFoundException or InvalidOperationException;

    private static Gen<T> Among<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(index => values[index]);

    private static bool Same(object expected, object actual) => (expected, actual) switch
    {
        (byte[] left, byte[] right) => left.SequenceEqual(right),
        (string[] left, string[] right) => left.SequenceEqual(right),
        (DateTime left, DateTime right) => left == right && left.Kind == right.Kind,
        (DateTimeOffset left, DateTimeOffset right) => left.EqualsExact(right),
        (decimal left, decimal right) => decimal.GetBits(left).SequenceEqual(decimal.GetBits(right)),
        (double left, double right) => BitConverter.DoubleToInt64Bits(left) == BitConverter.DoubleToInt64Bits(right),
        _ => expected.GetType() == actual.GetType() && expected.Equals(actual),
    };
}
