using FluentAssertions;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Budgets;

// What a message allocates on its way into the database. Synchronous saves, so that everything happens on this thread and can be counted.
public sealed class AllocationCosts(PostgreSqlDatabase database) : SuiteOn<PostgreSqlDatabase>(database)
{
    private const int Rounds = 50;
    private const int Messages = 10;

    // MassTransit's context and envelope, our row, ids and properties as JSON.
    private const int BytesPerPublish = 8 * 1024;

    // Nothing is tracked or compared, and bodies are not copied.
    private const int BytesPerSavedMessage = 2 * 1024;

    [SkippableFact]
    public async Task A_publish_allocates_no_more_than_its_budget()
    {
        await using var shop = Shop.Create(Database, bus => bus.Publishing(publishing => publishing.Unsaved = UnsavedMessages.Allow));
        await using var scope = shop.Scope();
        var outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();

        var allocated = Median(() => Allocated(() =>
        {
            for (var message = 0; message < Messages; message++)
                outbox.Publish(new OrderPlaced("A-1")).IsCompletedSuccessfully.Should().BeTrue();
        }));

        (allocated / Messages).Should().BePositive().And.BeLessThanOrEqualTo(BytesPerPublish);
    }

    [SkippableFact]
    public async Task A_saved_message_allocates_no_more_than_its_budget()
    {
        await using var shop = Shop.Create(Database);
        var number = 0;

        var alone = Median(() => OfSave(shop, $"A-{number++}", messages: 0));
        var withMessages = Median(() => OfSave(shop, $"A-{number++}", Messages));

        ((withMessages - alone) / Messages).Should().BePositive().And.BeLessThanOrEqualTo(BytesPerSavedMessage);
    }

    private static long OfSave(Shop shop, string number, int messages)
    {
        using var scope = shop.Scope();
        var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
        db.Add(new Order { Number = number });
        for (var message = 0; message < messages; message++)
            _ = scope.ServiceProvider.GetRequiredService<IOutboxContext>().Publish(new OrderPlaced(number));
        return Allocated(() => db.SaveChanges());
    }

    private static long Allocated(Action action)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        action();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    // Now and then a buffer or a cache grows.
    private static long Median(Func<long> measure)
    {
        var rounds = Enumerable.Range(0, Rounds).Select(_ => measure()).Order().ToList();
        return rounds[Rounds / 2];
    }
}
