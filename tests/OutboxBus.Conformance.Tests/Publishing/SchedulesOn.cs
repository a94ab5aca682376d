using System.Data.Common;
using System.Transactions;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Diagnostics;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// What is scheduled waits in its row, and is taken back in whatever transaction cancels it.
public abstract class SchedulesOn<TDatabase>(TDatabase database) : ScheduledMessagesOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task A_scheduled_message_waits_in_its_row_until_its_time()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            (await outbox.SchedulePublish(new OrderPlaced("given"), Later, new PublishOptions { ScheduleToken = token })).Should().Be(token);
            (await outbox.ScheduleSend("stock", new OrderPlaced("new"), Later)).Should().NotBe(Guid.Empty).And.NotBe(token);
            await db.SaveChangesAsync();
        });

        var rows = await RowsAsync();
        rows.Should().HaveCount(2).And.OnlyContain(row => Math.Abs((row.VisibleAt - Later.UtcDateTime).TotalSeconds) < 1 && row.DueAt != null && row.ScheduleToken != null);
        rows.Should().ContainSingle(row => row.Destination == null).Which.ScheduleToken.Should().Be(token);
        rows.Should().ContainSingle(row => row.Destination != null).Which.Headers.Should().Contain("MT-Scheduling-TokenId");
    }

    [SkippableTheory]
    [InlineData(CancellingShape.Save)]
    [InlineData(CancellingShape.SaveWithOneRow)]
    [InlineData(CancellingShape.SaveWithManyRows)]
    [InlineData(CancellingShape.SynchronousSave)]
    [InlineData(CancellingShape.SynchronousSaveWithOneRow)]
    [InlineData(CancellingShape.OpenConnection)]
    [InlineData(CancellingShape.ExplicitTransaction)]
    [InlineData(CancellingShape.SynchronousTransaction)]
    [InlineData(CancellingShape.CommitOnce)]
    public async Task A_later_transaction_takes_it_back(CancellingShape shape)
    {
        await using var shop = Shop.Create(Database);
        var (token, other) = (Guid.NewGuid(), Guid.NewGuid());
        await ScheduleAsync(shop, token, token, other);

        await RunAsync(shop, shape, outbox => outbox.CancelScheduled(token));

        (await RowsAsync()).Should().ContainSingle("the messages of the token are gone, and no others").Which.ScheduleToken.Should().Be(other);
        await using var context = Database.CreateShop();
        context.Database.AutoTransactionBehavior.Should().Be(AutoTransactionBehavior.WhenNeeded);
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_that_fails_takes_nothing_back_and_the_next_one_does(bool synchronous)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);
        await using var context = Database.CreateShop();
        context.Add(new Order { Number = "A-1" });
        await context.SaveChangesAsync();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.CancelScheduled(token);
            var twin = db.Add(new Order { Number = "A-1" });
            await FluentActions.Awaiting(() => SaveAsync(db, synchronous)).Should().ThrowAsync<DbUpdateException>();
            (await RowsAsync()).Should().ContainSingle("its transaction was rolled back");
            db.Database.AutoTransactionBehavior.Should().Be(AutoTransactionBehavior.WhenNeeded, "it is the application's");

            twin.Entity.Number = "A-2";
            await SaveAsync(db, synchronous);
        });

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task A_transaction_that_rolls_back_takes_nothing_back()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            await db.SaveChangesAsync();
            await transaction.RollbackAsync();
        });

        (await RowsAsync()).Should().ContainSingle().Which.ScheduleToken.Should().Be(token);
    }

    [SkippableFact]
    public async Task A_rollback_to_a_savepoint_brings_it_back()
    {
        await using var shop = Shop.Create(Database);
        var (kept, cancelled) = (Guid.NewGuid(), Guid.NewGuid());
        await ScheduleAsync(shop, kept, cancelled);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(cancelled);
            await db.SaveChangesAsync();
            await transaction.CreateSavepointAsync("here");
            await outbox.CancelScheduled(kept);
            await db.SaveChangesAsync();
            await transaction.RollbackToSavepointAsync("here");
            await transaction.CommitAsync();
        });

        (await RowsAsync()).Should().ContainSingle().Which.ScheduleToken.Should().Be(kept);
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_is_cancelled_before_it_is_saved_was_never_there_and_a_token_can_be_used_again(bool explicitTransaction)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            var transaction = explicitTransaction ? await db.Database.BeginTransactionAsync() : null;
            await outbox.SchedulePublish(new OrderPlaced("second"), Later, new PublishOptions { ScheduleToken = token });
            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("third"), Later, new PublishOptions { ScheduleToken = token });
            await db.SaveChangesAsync();
            (await MessagesAsync(db)).Should().ContainSingle().Which.Should().Be("third");

            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("fourth"), Later, new PublishOptions { ScheduleToken = token });
            await db.SaveChangesAsync();
            if (transaction is not null)
                await transaction.CommitAsync();
            (await MessagesAsync(db)).Should().ContainSingle().Which.Should().Be("fourth");
        });
    }

    [SkippableFact]
    public async Task What_a_failed_save_left_in_the_change_tracker_is_cancelled_there()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await using var context = Database.CreateShop();
        context.Add(new Order { Number = "A-1" });
        await context.SaveChangesAsync();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            var twin = db.Add(new Order { Number = "A-1" });
            await outbox.SchedulePublish(new OrderPlaced("A-1"), Later, new PublishOptions { ScheduleToken = token });
            await FluentActions.Awaiting(() => db.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
            await outbox.CancelScheduled(token);
            twin.State = EntityState.Detached;
            await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Cancelling_what_is_not_there_changes_nothing()
    {
        await using var shop = Shop.Create(Database);
        await ScheduleAsync(shop, Guid.NewGuid());

        await RunAsync(shop, CancellingShape.SaveWithOneRow, outbox => outbox.CancelScheduled(Guid.NewGuid()));

        (await RowsAsync()).Should().HaveCount(1);
        await shop.InScopeAsync(async (_, outbox) => await FluentActions.Awaiting(() => outbox.CancelScheduled(Guid.Empty)).Should().ThrowAsync<ArgumentException>());
    }

    [SkippableFact]
    public async Task A_cancellation_that_is_never_saved_is_reported()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync((_, outbox) => outbox.CancelScheduled(token));

        shop.Errors.Should().ContainSingle().Which.Should().Contain("1 cancellation(s)").And.Contain($"{token}");
        (await RowsAsync()).Should().HaveCount(1);
    }

    [SkippableFact]
    public async Task A_cancellation_without_a_transaction_is_refused_where_saves_have_none()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.AutoTransactionBehavior = AutoTransactionBehavior.Never;
            await outbox.CancelScheduled(token);
            db.Add(new Order { Number = "A-1" });
            await FluentActions.Awaiting(() => db.SaveChangesAsync()).Should().ThrowAsync<OutboxBusException>().WithMessage("*AutoTransactionBehavior is Never*");
        });

        (await RowsAsync()).Should().HaveCount(1);
    }

    [SkippableFact]
    public async Task An_interceptor_that_comes_later_may_cancel_too()
    {
        var token = Guid.NewGuid();
        var cancelling = new CancelOnSave();
        await using var shop = Shop.Create(Database, services: services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(cancelling)));
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            cancelling.Cancel = () => outbox.CancelScheduled(token);
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Changes_saved_and_not_accepted_are_cancelled_again_with_the_rest()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.CancelScheduled(token);
            await using (var lost = await db.Database.BeginTransactionAsync())
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
            (await RowsAsync()).Should().HaveCount(1, "that transaction was disposed");

            await using var transaction = await db.Database.BeginTransactionAsync();
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
        });

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(InboxMode.First)]
    [InlineData(InboxMode.Last)]
    public async Task A_handler_schedules_and_cancels_in_its_transaction(InboxMode mode)
    {
        using var consumed = new SemaphoreSlim(0);
        await using var shop = Shop.Create(
            Database,
            bus => bus.AddHandler<Handler>(handler => handler.RetryDelays = [TimeSpan.Zero]).Inbox(inbox => inbox.Mode = mode),
            services => services.AddSingleton(new FaultPoints((point, _) =>
            {
                if (point == FaultPoint.AfterConsume)
                    consumed.Release();
                return ValueTask.CompletedTask;
            })));
        await shop.StartAsync();
        var (old, reminder) = (Guid.NewGuid(), Guid.NewGuid());
        await ScheduleAsync(shop, old);

        await shop.Services.GetRequiredService<IBus>().Publish(new Remind(old, reminder));
        (await consumed.WaitAsync(Eventually.Limit)).Should().BeTrue();

        (await RowsAsync()).Should().ContainSingle("the first attempt failed, with all it did").Which.ScheduleToken.Should().Be(reminder);
    }

    [SkippableFact]
    public async Task MassTransits_scheduler_comes_here_and_publishes_to_subscribers_of_base_types()
    {
        await using var shop = Shop.Create(Database);
        await using var scope = shop.Scope();
        var db = scope.ServiceProvider.GetRequiredService<ShopDb>();
        var scheduler = scope.ServiceProvider.GetRequiredService<IMessageScheduler>();

        var published = await scheduler.SchedulePublish(Later.UtcDateTime, new OrderPlaced("published"));
        var sent = await scheduler.ScheduleSend(new Uri("queue:stock"), Later.UtcDateTime, new OrderPlaced("sent"));
        await db.SaveChangesAsync();

        var rows = await RowsAsync();
        rows.Should().ContainSingle(row => row.ScheduleToken == published.TokenId).Which.Destination.Should().BeNull("a publish goes by its type");
        rows.Should().ContainSingle(row => row.ScheduleToken == sent.TokenId).Which.Destination.Should().StartWith("loopback://localhost/stock");
        rows.Should().OnlyContain(row => Math.Abs((row.VisibleAt - Later.UtcDateTime).TotalSeconds) < 1);

        await scheduler.CancelScheduledPublish<OrderPlaced>(published.TokenId);
        await scheduler.CancelScheduledSend(new Uri("queue:stock"), sent.TokenId);
        await db.SaveChangesAsync();
        (await RowsAsync()).Should().BeEmpty();
    }

    private static Task RunAsync(Shop shop, CancellingShape shape, Func<IOutboxContext, Task> act) => shop.InScopeAsync(async (db, outbox) =>
    {
        switch (shape)
        {
            case CancellingShape.CommitOnce:
                await db.CommitOnceAsync(_ => act(outbox), default);
                return;
            case CancellingShape.ExplicitTransaction:
                await using (var transaction = await db.Database.BeginTransactionAsync())
                {
                    await act(outbox);
                    await db.SaveChangesAsync();
                    await transaction.CommitAsync();
                }

                return;
            case CancellingShape.SynchronousTransaction:
                using (var transaction = db.Database.BeginTransaction())
                {
                    await act(outbox);
                    db.SaveChanges();
                    transaction.Commit();
                }

                return;
            case CancellingShape.OpenConnection:
                await db.Database.OpenConnectionAsync();
                break;
        }

        for (var row = 0; row < shape switch { CancellingShape.Save or CancellingShape.SynchronousSave => 0, CancellingShape.SaveWithManyRows => 3, _ => 1 }; row++)
            db.Add(new Order { Number = $"A-{row}" });
        await act(outbox);
        await SaveAsync(db, shape is CancellingShape.SynchronousSave or CancellingShape.SynchronousSaveWithOneRow);
    });

    public sealed record Remind(Guid Old, Guid Reminder);

    public sealed class Handler(ShopDb db) : IMessageHandler<Remind>
    {
        public async Task Handle(Remind message, IMessageContext context, CancellationToken cancellationToken)
        {
            db.Add(new Order { Number = $"attempt {context.Attempt}" });
            await db.SaveChangesAsync(cancellationToken);
            await context.CancelScheduled(message.Old, cancellationToken);
            var never = await context.SchedulePublish(new OrderPlaced("never"), Later, cancellationToken: cancellationToken);
            await context.CancelScheduled(never, cancellationToken);
            if (context.Attempt == 1)
                throw new InvalidOperationException("The first attempt fails.");
            await context.SchedulePublish(new OrderPlaced("reminder"), Later, new PublishOptions { ScheduleToken = message.Reminder }, cancellationToken);
        }
    }

    private sealed class CancelOnSave : SaveChangesInterceptor
    {
        public Func<Task>? Cancel { get; set; }

        public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
        {
            if (Cancel is not null)
                await Cancel();
            return result;
        }
    }
}

// How an application may save what it cancels.
public enum CancellingShape
{
    Save,
    SaveWithOneRow,
    SaveWithManyRows,
    SynchronousSave,
    SynchronousSaveWithOneRow,
    OpenConnection,
    ExplicitTransaction,
    SynchronousTransaction,
    CommitOnce,
}

public sealed class SchedulesOnSqlite(SqliteDatabase database) : SchedulesOn<SqliteDatabase>(database);

public sealed class SchedulesOnPostgreSql(PostgreSqlDatabase database) : SchedulesOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_ambient_transaction_decides(bool complete)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        using (var ambient = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
        {
            await shop.InScopeAsync(async (db, outbox) =>
            {
                db.Add(new Order { Number = "A-1" });
                await outbox.CancelScheduled(token);
                await db.SaveChangesAsync();
            });
            if (complete)
                ambient.Complete();
        }

        (await RowsAsync()).Should().HaveCount(complete ? 0 : 1);
    }

    [SkippableFact]
    public async Task A_save_that_the_execution_strategy_repeats_cancels_each_time()
    {
        var failures = new FailFirstInsert();
        await using var shop = Shop.Create(Database, register: (services, configure) => services.AddDbContext<ShopDb>(options =>
        {
            configure(options);
            options.UseNpgsql(Database.ConnectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.FromMilliseconds(10), null)).AddInterceptors(failures);
        }));
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.CancelScheduled(token);
            failures.IsArmed = true;
            await db.SaveChangesAsync();
        });

        failures.IsArmed.Should().BeFalse("one attempt has failed");
        (await RowsAsync()).Should().BeEmpty();
    }

    // Transient to the strategy; the statement itself is never sent.
    private sealed class FailFirstInsert : DbCommandInterceptor
    {
        public bool IsArmed { get; set; }

        public override ValueTask<InterceptionResult<DbDataReader>> ReaderExecutingAsync(
            DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result, CancellationToken cancellationToken = default)
        {
            if (!IsArmed)
                return ValueTask.FromResult(result);
            IsArmed = false;
            throw new TimeoutException("The first attempt fails.");
        }
    }
}
