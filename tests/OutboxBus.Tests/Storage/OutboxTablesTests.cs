using FluentAssertions;
using OutboxBus.Storage;
using Xunit;

namespace OutboxBus.Tests.Storage;

public sealed class OutboxTablesTests
{
    [Fact]
    public void Defaults_are_valid() => new OutboxTables().Invoking(tables => tables.Validate()).Should().NotThrow();

    [Theory]
    [InlineData("x")]
    [InlineData("with \"quotes\" and spaces")]
    [InlineData("Größe")]
    public void Names_are_free_within_what_engines_take(string name)
        => new OutboxTables(name, name, name, name).Invoking(tables => tables.Validate()).Should().NotThrow();

    [Fact]
    public void Longest_name_is_what_PostgreSQL_keeps()
    {
        new OutboxTables(Outbox: new string('x', 63)).Invoking(tables => tables.Validate()).Should().NotThrow();
        new OutboxTables(Outbox: new string('x', 64)).Invoking(tables => tables.Validate()).Should().Throw<OutboxBusException>();
    }

    [Theory]
    [InlineData("")]
    [InlineData("  ")]
    [InlineData("a\0b")]
    [InlineData("a\nb")]
    public void Names_no_engine_takes_are_refused_by_what_they_name(string name)
    {
        Refused(new OutboxTables(Schema: name)).Should().Contain("name of the schema");
        Refused(new OutboxTables(Outbox: name)).Should().Contain("name of the outbox table");
        Refused(new OutboxTables(DeadLetter: name)).Should().Contain("name of the dead letter table");
        Refused(new OutboxTables(Inbox: name)).Should().Contain("name of the inbox table");
    }

    private static string Refused(OutboxTables tables) => tables.Invoking(wrong => wrong.Validate()).Should().Throw<OutboxBusException>().Which.Message;
}
