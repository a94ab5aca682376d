using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.MassTransit.Publishing;
using Xunit;

namespace OutboxBus.MassTransit.Tests.Publishing;

public sealed class ScheduledMessagesTests
{
    [Fact]
    public void An_application_without_a_scheduler_gets_one() => SchedulerOf(_ => { }, _ => { }).Should().StartWith(typeof(ScheduledMessages).FullName);

    [Fact]
    public void The_delayed_scheduler_which_cannot_cancel_is_replaced_whichever_is_added_first()
    {
        SchedulerOf(before => before.AddDelayedMessageScheduler(), _ => { }).Should().StartWith(typeof(ScheduledMessages).FullName);
        SchedulerOf(_ => { }, after => after.AddDelayedMessageScheduler()).Should().StartWith(typeof(ScheduledMessages).FullName);
    }

    [Fact]
    public void A_scheduler_that_is_a_service_of_its_own_stays()
    {
        SchedulerOf(before => before.AddMessageScheduler(new Uri("queue:quartz")), _ => { }).Should().NotStartWith(typeof(ScheduledMessages).FullName);
        SchedulerOf(before => before.AddScoped<IMessageScheduler>(Own), _ => { }).Should().StartWith(typeof(ScheduledMessagesTests).FullName);
    }

    private static IMessageScheduler Own(IServiceProvider provider) => throw new NotSupportedException("It is only registered.");

    /// <summary>The class whose code makes the application's scheduler.</summary>
    private static string SchedulerOf(Action<IBusRegistrationConfigurator> before, Action<IBusRegistrationConfigurator> after)
    {
        var services = new ServiceCollection();
        services.AddMassTransit(bus =>
        {
            before(bus);
            bus.AddOutboxBus<TestDb>(store => store.UseSqlite());
            after(bus);
        });
        return services.Should().ContainSingle(service => service.ServiceType == typeof(IMessageScheduler)).Which.ImplementationFactory!.Method.DeclaringType!.FullName!;
    }

    private sealed class TestDb(DbContextOptions<TestDb> options) : DbContext(options);
}
