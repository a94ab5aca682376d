using System.Globalization;

namespace OutboxBus.Benchmarks.Contestants;

// A number that can be found again in the bytes of a message, whatever format they have.
public static class References
{
    private const byte Mark = (byte)'#';
    private const int Digits = 9;

    public static string Of(int number) => string.Create(CultureInfo.InvariantCulture, $"#{number:D9}#");

    public static int NumberIn(ReadOnlySpan<byte> body)
    {
        for (var start = body.IndexOf(Mark); start >= 0 && start + Digits + 1 < body.Length;)
        {
            var digits = body.Slice(start + 1, Digits);
            if (body[start + Digits + 1] == Mark && int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
                return number;
            var next = body[(start + 1)..].IndexOf(Mark);
            start = next < 0 ? -1 : start + 1 + next;
        }

        throw new FormatException("The message has no reference.");
    }
}
