using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using OutboxBus.MassTransit.Sagas;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Sagas;

public sealed class SagaMappingTests
{
    [Fact]
    public void A_row_version_is_relied_on_and_a_token_that_nothing_may_ever_change_is_not()
    {
        using var context = new SagasContext();

        SagaMapping.ConcurrencyOf(context, new SagaRepositoryOptions<Versioned>()).Should().Be(SagaConcurrency.Optimistic);
        SagaMapping.ConcurrencyOf(context, new SagaRepositoryOptions<Counted>()).Should().Be(SagaConcurrency.Pessimistic);
        SagaMapping.ConcurrencyOf(context, new SagaRepositoryOptions<Bare>()).Should().Be(SagaConcurrency.Pessimistic);
    }

    [Fact]
    public void What_was_chosen_stands_if_there_is_a_token()
    {
        using var context = new SagasContext();

        SagaMapping.ConcurrencyOf(context, new SagaRepositoryOptions<Versioned> { Concurrency = SagaConcurrency.Pessimistic }).Should().Be(SagaConcurrency.Pessimistic);
        SagaMapping.ConcurrencyOf(context, new SagaRepositoryOptions<Counted> { Concurrency = SagaConcurrency.Optimistic }).Should().Be(SagaConcurrency.Optimistic);
        FluentActions.Invoking(() => SagaMapping.ConcurrencyOf(context, new SagaRepositoryOptions<Bare> { Concurrency = SagaConcurrency.Optimistic }))
            .Should().Throw<OutboxBusException>().WithMessage("*no concurrency token*IsRowVersion*");
    }

    private sealed class SagasContext : DbContext
    {
        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseSqlite("Data Source=:memory:");

        protected override void OnModelCreating(ModelBuilder modelBuilder)
        {
            modelBuilder.AddSaga<Versioned>().Property(saga => saga.Version).IsRowVersion();
            modelBuilder.AddSaga<Counted>().Property(saga => saga.Version).IsConcurrencyToken();
            modelBuilder.AddSaga<Bare>();
        }
    }

    private sealed class Bare : ISaga
    {
        public Guid CorrelationId { get; set; }
    }

    private sealed class Versioned : ISaga
    {
        public Guid CorrelationId { get; set; }

        public uint Version { get; set; }
    }

    private sealed class Counted : ISaga
    {
        public Guid CorrelationId { get; set; }

        public int Version { get; set; }
    }
}
