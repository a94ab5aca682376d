using System.Collections.Concurrent;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// Interceptors and threads of the application do things in the middle of a save that SaveChanges itself never does.
public sealed class SavesThatOthersDisturb(SqliteDatabase database) : TransactionsOn<SqliteDatabase>(database)
{
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_save_that_an_interceptor_refuses_disturbs_nothing_that_comes_later(bool first)
    {
        var disturbance = new Disturbance { Saving = _ => throw new InvalidOperationException("refused") };
        await using var shop = Disturbed(disturbance, first);
        await InScopeAsync(shop, async request =>
        {
            request.Db.Add(new Order { Number = "refused" });
            await request.Db.Awaiting(db => db.SaveChangesAsync()).Should().ThrowAsync<InvalidOperationException>();
            disturbance.Saving = null;
            await request.Outbox.Publish(new OrderPlaced("rejected"));
            request.Db.ChangeTracker.Clear();
            request.Db.Add(new Order { Number = "rejected" });
            await request.Db.SaveChangesAsync();
        });

        (await OrdersAsync()).Should().Equal("rejected");
        (await MessagesAsync()).Should().Equal("rejected");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_tracker_cleared_after_the_rows_are_written_loses_no_message(bool first)
    {
        await using var shop = Disturbed(new Disturbance { Saved = db => db.ChangeTracker.Clear() }, first);

        await InScopeAsync(shop, request => request.PlaceAndSaveAsync("A-1"));
        await InScopeAsync(shop, request => request.Db.CommitOnceAsync(_ => request.PlaceAsync("A-2"), default));

        (await MessagesAsync()).Should().Equal("A-1", "A-2");
        shop.Errors.Should().BeEmpty("what is stored is not reported as never saved");
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Messages_may_be_published_in_a_loop_over_what_is_tracked(bool first)
    {
        var disturbance = new Disturbance();
        await using var shop = Disturbed(disturbance, first);
        await InScopeAsync(shop, async request =>
        {
            disturbance.Saving = async db =>
            {
                foreach (var entry in db.ChangeTracker.Entries<Order>())
                    await request.Outbox.Publish(new OrderPlaced(entry.Entity.Number));
            };
            request.Db.AddRange(new Order { Number = "A-1" }, new Order { Number = "A-2" });
            await request.Db.SaveChangesAsync();
        });

        (await MessagesAsync()).Should().Equal("A-1", "A-2");
    }

    // The components of a Blazor circuit do, when the save's continuations run on other threads.
    [SkippableFact]
    public async Task Others_may_publish_while_a_save_runs()
    {
        const int Rounds = 30;
        const int Messages = 300;
        await using var shop = Shop.Create(Database);
        var failures = new ConcurrentQueue<Exception>();
        for (var round = 0; round < Rounds && failures.IsEmpty; round++)
        {
            await InScopeAsync(shop, async request =>
            {
                for (var order = 0; order < 200; order++)
                    request.Db.Add(new Order { Number = $"{round}-{order}" });
                var outbox = request.Outbox;
                await outbox.Publish(new OrderPlaced("first"));
                using var saving = new ManualResetEventSlim();
                var publishing = Task.Run(async () =>
                {
                    saving.Wait();
                    for (var message = 1; message < Messages; message++)
                        await outbox.Publish(new OrderPlaced("during"));
                });
                saving.Set();
                await NoteAsync(failures, request.Db.SaveChangesAsync());
                await NoteAsync(failures, publishing);
                await NoteAsync(failures, request.Db.SaveChangesAsync());
            });
        }

        failures.Should().BeEmpty();
        (await MessagesAsync()).Should().HaveCount(Rounds * Messages);
        shop.Errors.Should().BeEmpty();
    }

    private Shop Disturbed(Disturbance disturbance, bool first)
    {
        void Add(IServiceCollection services) => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(disturbance));
        return first
            ? Shop.Create(Database, services: Add)
            : Shop.Create(Database, bus => bus.MassTransit(Add));
    }

    private static async Task NoteAsync(ConcurrentQueue<Exception> failures, Task task)
    {
        try
        {
            await task;
        }
        catch (Exception exception)
        {
            failures.Enqueue(exception);
        }
    }

    private sealed class Disturbance : SaveChangesInterceptor
    {
        public Func<DbContext, Task>? Saving { get; set; }

        public Action<DbContext>? Saved { get; init; }

        public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
        {
            if (Saving is { } saving)
                await saving(eventData.Context!);
            return result;
        }

        public override ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
        {
            Saved?.Invoke(eventData.Context!);
            return new(result);
        }
    }
}
