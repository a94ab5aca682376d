using System.Text.Json;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Conformance.Tests.Engines;

namespace OutboxBus.Conformance.Tests.Publishing;

// Messages scheduled for a time that does not come, and what is left of them.
public abstract class ScheduledMessagesOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    protected static DateTimeOffset Later { get; } = DateTimeOffset.UtcNow.AddHours(3);

    protected static PublishOptions By(Guid token) => new() { ScheduleToken = token };

    protected static Task ScheduleAsync(Shop shop, params Guid[] tokens) => shop.InScopeAsync(async (db, outbox) =>
    {
        foreach (var token in tokens)
            await outbox.SchedulePublish(new OrderPlaced($"{token}"), Later, By(token));
        await db.SaveChangesAsync();
    });

    protected static Task SaveAsync(ShopDb db, bool synchronous, bool accept = true)
        => synchronous ? Task.FromResult(db.SaveChanges(accept)) : db.SaveChangesAsync(accept);

    protected async Task<List<Envelope>> RowsAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Set<Envelope>().AsNoTracking().OrderBy(row => row.Id).ToListAsync();
    }

    protected async Task<List<string>> MessagesAsync()
    {
        await using var context = Database.CreateShop();
        return await MessagesAsync(context);
    }

    protected static async Task<List<string>> MessagesAsync(ShopDb db)
        => (await db.Set<Envelope>().AsNoTracking().OrderBy(row => row.Id).ToListAsync())
            .ConvertAll(row => JsonDocument.Parse(row.Body).RootElement.GetProperty("message").GetProperty("number").GetString()!);
}
