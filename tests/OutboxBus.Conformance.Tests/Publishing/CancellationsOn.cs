using System.Collections.Concurrent;
using System.Data.Common;
using System.Text;
using System.Transactions;
using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Diagnostics;
using OutboxBus.MassTransit;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// A cancellation stands or falls with the save it belongs to, and spares what is scheduled anew with its token.
public abstract class CancellationsOn<TDatabase>(TDatabase database) : ScheduledMessagesOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    // Makes the database refuse to delete messages, and no longer.
    protected abstract string Refuse { get; }

    protected abstract string NoLongerRefuse { get; }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_that_fails_in_a_transaction_and_is_given_up_takes_nothing_back(bool synchronous)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            db.Add(new Order { Number = "A-1" });
            await FluentActions.Awaiting(() => SaveAsync(db, synchronous)).Should().ThrowAsync<DbUpdateException>();
            await transaction.CommitAsync();
        });

        (await MessagesAsync()).Should().Equal($"{token}");
        shop.Errors.Should().ContainSingle("it was never saved").Which.Should().Contain("1 cancellation(s)");
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_repaired_in_its_transaction_takes_back(bool synchronous)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("anew"), Later, By(token));
            var twin = db.Add(new Order { Number = "A-1" });
            await FluentActions.Awaiting(() => SaveAsync(db, synchronous)).Should().ThrowAsync<DbUpdateException>();
            twin.Entity.Number = "A-2";
            await SaveAsync(db, synchronous);
            await transaction.CommitAsync();
        });

        (await MessagesAsync()).Should().Equal("anew");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Without_savepoints_it_takes_back_before_what_is_scheduled_anew()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.AutoSavepointsEnabled = false;
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("anew"), Later, By(token));
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
        });

        (await MessagesAsync()).Should().Equal("anew");
    }

    [SkippableTheory]
    [InlineData(UnacceptedEnd.Committed, false)]
    [InlineData(UnacceptedEnd.Committed, true)]
    [InlineData(UnacceptedEnd.AcceptedOnly, false)]
    [InlineData(UnacceptedEnd.SameTransaction, true)]
    [InlineData(UnacceptedEnd.RolledBack, false)]
    [InlineData(UnacceptedEnd.RolledBack, true)]
    public async Task What_is_scheduled_anew_survives_the_save_after_one_that_was_not_accepted(UnacceptedEnd end, bool withoutRow)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("anew"), Later, By(token));
            if (!withoutRow)
                db.Add(new Order { Number = "A-1" });
            await db.Database.OpenConnectionAsync();
            await using (var raw = end == UnacceptedEnd.AcceptedOnly ? await db.Database.GetDbConnection().BeginTransactionAsync() : null)
            await using (var transaction = raw is null ? await db.Database.BeginTransactionAsync() : (await db.Database.UseTransactionAsync(raw))!)
            {
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                if (end == UnacceptedEnd.SameTransaction)
                    await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                if (raw is not null)
                    await raw.CommitAsync();
                else if (end != UnacceptedEnd.RolledBack)
                    await transaction.CommitAsync();
            }

            if (end != UnacceptedEnd.RolledBack)
                db.ChangeTracker.AcceptAllChanges();
            await outbox.Publish(new OrderPlaced("after"));
            await db.SaveChangesAsync();
        });

        (await MessagesAsync()).Should().BeEquivalentTo("anew", "after");
    }

    [SkippableFact]
    public async Task A_cancellation_alone_that_was_not_accepted_is_run_again_only_if_its_transaction_came_to_nothing()
    {
        await using var shop = Shop.Create(Database);
        var (lost, done) = (Guid.NewGuid(), Guid.NewGuid());
        await ScheduleAsync(shop, lost, done);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.CancelScheduled(lost);
            await using (await db.Database.BeginTransactionAsync())
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
            await db.SaveChangesAsync();
            (await MessagesAsync()).Should().Equal($"{done}");

            await outbox.CancelScheduled(done);
            await using (var transaction = await db.Database.BeginTransactionAsync())
            {
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                await transaction.CommitAsync();
            }

            await ScheduleAsync(shop, done);
            await db.SaveChangesAsync();
        });

        (await MessagesAsync()).Should().Equal($"{done}");
    }

    [SkippableFact]
    public async Task Cancelling_again_what_a_rolled_back_cancellation_was_accepted_with_needs_a_new_call()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using (await db.Database.BeginTransactionAsync())
            {
                await outbox.CancelScheduled(token);
                await db.SaveChangesAsync();
            }

            await db.SaveChangesAsync();
        });

        (await MessagesAsync()).Should().Equal([$"{token}"], "like a row that was saved, it is not saved again");
    }

    [SkippableFact]
    public async Task What_an_unaccepted_save_has_lost_is_not_saved_again_once_cancelled()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.SchedulePublish(new OrderPlaced("lost"), Later, By(token));
            db.Add(new Order { Number = "A-1" });
            await using (await db.Database.BeginTransactionAsync())
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
            await outbox.CancelScheduled(token);
            await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_that_is_suppressed_takes_nothing_back(bool explicitTransaction)
    {
        var intruder = new Intruder();
        await using var shop = WithLaterInterceptor(intruder);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = explicitTransaction ? await db.Database.BeginTransactionAsync() : null;
            intruder.Suppresses = true;
            db.Add(new Order { Number = "A-1" });
            await outbox.CancelScheduled(token);
            await db.SaveChangesAsync();
            intruder.Suppresses = false;
            if (transaction is not null)
                await transaction.CommitAsync();
            (await RowsAsync()).Should().HaveCount(1);
            await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().BeEmpty("the next save was not");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(IntruderPlace.Save, true)]
    [InlineData(IntruderPlace.ExplicitTransaction, true)]
    [InlineData(IntruderPlace.WithoutSavepoints, true)]
    [InlineData(IntruderPlace.Save, false)]
    [InlineData(IntruderPlace.ExplicitTransaction, false)]
    public async Task An_interceptor_that_comes_later_may_cancel_and_schedule_anew(IntruderPlace place, bool detects)
    {
        var intruder = new Intruder();
        await using var shop = WithLaterInterceptor(intruder);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.ChangeTracker.AutoDetectChangesEnabled = detects;
            db.Database.AutoSavepointsEnabled = place != IntruderPlace.WithoutSavepoints;
            await using var transaction = place == IntruderPlace.Save ? null : await db.Database.BeginTransactionAsync();
            intruder.Acts = async () =>
            {
                await outbox.CancelScheduled(token);
                await outbox.SchedulePublish(new OrderPlaced("anew"), Later, By(token));
            };
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
            await db.SaveChangesAsync();
            if (transaction is not null)
                await transaction.CommitAsync();
        });

        (await MessagesAsync()).Should().Equal("anew");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_interceptor_that_comes_later_may_cancel_what_the_save_was_to_schedule(bool detects)
    {
        var intruder = new Intruder();
        await using var shop = WithLaterInterceptor(intruder);
        var token = Guid.NewGuid();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.ChangeTracker.AutoDetectChangesEnabled = detects;
            await outbox.SchedulePublish(new OrderPlaced("early"), Later, By(token));
            intruder.Acts = () => outbox.CancelScheduled(token);
            await db.SaveChangesAsync();
            // Where nothing looks for changes, the message is written first, and the next save deletes it.
            if (!detects)
                await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(IntruderPlace.Save)]
    [InlineData(IntruderPlace.ExplicitTransaction)]
    [InlineData(IntruderPlace.WithoutSavepoints)]
    public async Task A_save_at_the_end_of_another_spares_what_that_has_scheduled_anew(IntruderPlace place)
    {
        var resaving = new AtTheEnd();
        await using var shop = Shop.Create(Database, context: options => options.AddInterceptors(resaving));
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.AutoSavepointsEnabled = place != IntruderPlace.WithoutSavepoints;
            await using var transaction = place == IntruderPlace.Save ? null : await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("anew"), Later, By(token));
            resaving.Order = new Order { Number = "A-1" };
            await db.SaveChangesAsync();
            if (transaction is not null)
                await transaction.CommitAsync();
            db.Orders.Count().Should().Be(1);
        });

        (await MessagesAsync()).Should().Equal("anew");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(IntruderPlace.Save)]
    [InlineData(IntruderPlace.ExplicitTransaction)]
    public async Task A_cancellation_at_the_end_of_a_save_is_the_next_saves_and_spares_what_this_one_has_scheduled_anew(IntruderPlace place)
    {
        var ending = new AtTheEnd();
        await using var shop = Shop.Create(Database, context: options => options.AddInterceptors(ending));
        var (token, other) = (Guid.NewGuid(), Guid.NewGuid());
        await ScheduleAsync(shop, token);
        await ScheduleAsync(shop, other);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = place == IntruderPlace.Save ? null : await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            await outbox.SchedulePublish(new OrderPlaced("anew"), Later, By(token));
            ending.Acts = () => outbox.CancelScheduled(other);
            await db.SaveChangesAsync();
            (await db.Set<Envelope>().CountAsync()).Should().Be(2);
            await db.SaveChangesAsync();
            if (transaction is not null)
                await transaction.CommitAsync();
        });

        (await MessagesAsync()).Should().Equal("anew");
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_that_is_refused_takes_nothing_back_in_a_transaction_without_saves(bool atDetection)
    {
        var intruder = new Intruder();
        await using var shop = WithLaterInterceptor(intruder);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.CancelScheduled(token);
            if (atDetection)
                db.ChangeTracker.DetectingAllChanges += RefuseToDetect;
            else
                intruder.Acts = () => throw new NotSupportedException("Refused.");
            await FluentActions.Awaiting(() => db.SaveChangesAsync()).Should().ThrowAsync<NotSupportedException>();
            db.ChangeTracker.DetectingAllChanges -= RefuseToDetect;
            db.Database.AutoTransactionBehavior.Should().Be(AutoTransactionBehavior.WhenNeeded);
            await using (var transaction = await db.Database.BeginTransactionAsync())
                await transaction.CommitAsync();
            (await RowsAsync()).Should().HaveCount(1, "nothing was saved");
            await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();

        static void RefuseToDetect(object? sender, DetectChangesEventArgs e) => throw new NotSupportedException("Refused.");
    }

    [SkippableFact]
    public async Task In_a_handler_an_interceptor_that_comes_later_may_cancel_and_schedule_anew()
    {
        using var consumed = new SemaphoreSlim(0);
        var intruder = new Intruder();
        await using var shop = Shop.Create(
            Database,
            bus =>
            {
                bus.AddHandler<Handler>();
                AddLater(bus, intruder);
            },
            services => services.AddSingleton(intruder).AddSingleton(new FaultPoints((point, _) =>
            {
                if (point == FaultPoint.AfterConsume)
                    consumed.Release();
                return ValueTask.CompletedTask;
            })));
        await shop.StartAsync();
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.Services.GetRequiredService<IBus>().Publish(new Renew(token));
        (await consumed.WaitAsync(Eventually.Limit)).Should().BeTrue();

        (await MessagesAsync()).Should().Equal("anew");
    }

    [SkippableTheory]
    [InlineData(false, RefusedSave.OfRow)]
    [InlineData(true, RefusedSave.OfRow)]
    [InlineData(false, RefusedSave.OfRowOnOpenConnection)]
    [InlineData(true, RefusedSave.OfRowOnOpenConnection)]
    [InlineData(false, RefusedSave.OfNothingElse)]
    [InlineData(true, RefusedSave.OfNothingElse)]
    public async Task A_cancellation_that_the_database_refuses_fails_the_save_and_can_be_tried_again(bool synchronous, RefusedSave save)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            var alone = save == RefusedSave.OfNothingElse;
            if (!alone)
                db.Add(new Order { Number = "A-1" });
            await outbox.CancelScheduled(token);
            await ExecuteAsync(Refuse);
            var state = System.Data.ConnectionState.Closed;
            if (save == RefusedSave.OfRowOnOpenConnection)
            {
                await db.Database.OpenConnectionAsync();
                state = System.Data.ConnectionState.Open;
            }

            await FluentActions.Awaiting(() => SaveAsync(db, synchronous)).Should().ThrowAsync<DbException>();
            await ExecuteAsync(NoLongerRefuse);
            db.Database.CurrentTransaction.Should().BeNull();
            db.Database.GetDbConnection().State.Should().Be(state, "it is left as it was");
            (await MessagesAsync()).Should().Equal($"{token}");

            await SaveAsync(db, synchronous);
            db.Orders.Count().Should().Be(alone ? 0 : 1);
        });

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task What_was_found_is_logged_and_what_was_not_too()
    {
        var lines = new ConcurrentQueue<string>();
        await using var shop = Shop.Create(Database, services: services => services
            .AddSingleton<ILoggerProvider>(new Debugs(lines))
            .Configure<LoggerFilterOptions>(filter => filter.MinLevel = LogLevel.Debug));
        var (token, unknown) = (Guid.NewGuid(), Guid.NewGuid());
        await ScheduleAsync(shop, token);

        foreach (var cancelled in (Guid[])[token, unknown])
        {
            await shop.InScopeAsync(async (db, outbox) =>
            {
                await outbox.CancelScheduled(cancelled);
                await db.SaveChangesAsync();
            });
        }

        lines.Should().HaveCount(2);
        lines.Should().ContainSingle(line => line.Contains($"{token}: 1 row(s)", StringComparison.Ordinal));
        lines.Should().ContainSingle(line => line.Contains($"{unknown}: 0 row(s)", StringComparison.Ordinal));
    }

    [SkippableFact]
    public async Task An_enlisted_context_takes_back_in_its_transaction_and_the_scopes_own_does_not()
    {
        await using var shop = Shop.Create(Database, register: (services, configure) => services.AddDbContextFactory<ShopDb>(configure));
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await using (var scope = shop.Scope())
        {
            var outbox = scope.ServiceProvider.GetRequiredService<IOutboxContext>();
            await using var db = await scope.ServiceProvider.GetRequiredService<IDbContextFactory<ShopDb>>().CreateDbContextAsync();
            using (outbox.Enlist(db))
                await outbox.CancelScheduled(token);
            await scope.ServiceProvider.GetRequiredService<ShopDb>().SaveChangesAsync();
            (await RowsAsync()).Should().HaveCount(1);
            await db.SaveChangesAsync();
        }

        (await RowsAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task A_time_given_twice_is_refused()
    {
        await using var shop = Shop.Create(Database);
        await shop.InScopeAsync(async (_, outbox) =>
        {
            await FluentActions.Awaiting(() => outbox.SchedulePublish(new OrderPlaced("A-1"), Later, new PublishOptions { DueAt = Later })).Should().ThrowAsync<ArgumentException>();
            await FluentActions.Awaiting(() => outbox.ScheduleSend("stock", new OrderPlaced("A-1"), Later, new SendOptions { Delay = TimeSpan.Zero })).Should().ThrowAsync<ArgumentException>();
        });
    }

    [SkippableFact]
    public async Task The_tokens_are_found_by_their_index()
    {
        await using var context = Database.CreateShop(Database.OwnerConnectionString);
        context.AddRange(Enumerable.Range(0, 2000).Select(number => new Envelope { MessageId = Guid.NewGuid(), MessageType = "urn:message:Test:A", ContentType = "text/plain", ScheduleToken = number < 10 ? Guid.NewGuid() : null }));
        await context.SaveChangesAsync();
        await context.Database.ExecuteSqlRawAsync("analyze outbox_message");
        await using var connection = await Database.OpenAsync();
        await using var command = connection.CreateCommand();
        Database.CreateDialect(Database.Tables).CancelScheduled(command, "default", [Guid.NewGuid()]);

        (await PlanAsync(command)).Should().Contain("ix_outbox_message_schedule_token");
    }

    // How the database goes about a statement.
    protected abstract Task<string> PlanAsync(DbCommand statement);

    protected static async Task<string> TextAsync(DbCommand command)
    {
        var text = new StringBuilder();
        await using var reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
            text.AppendLine(reader.GetString(reader.FieldCount - 1));
        return text.ToString();
    }

    [SkippableFact]
    public async Task CommitOnce_refuses_to_begin_with_a_cancellation_that_a_retry_would_lose()
    {
        await using var shop = Shop.Create(Database, bus => bus.Publishing(publishing => publishing.Unsaved = UnsavedMessages.Allow));
        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.CancelScheduled(Guid.NewGuid());
            await FluentActions.Awaiting(() => db.CommitOnceAsync(_ => Task.CompletedTask, default)).Should().ThrowAsync<OutboxBusException>().WithMessage("*1 cancellation(s) not saved*");
        });
    }

    private Shop WithLaterInterceptor(Intruder intruder)
        => Shop.Create(Database, bus => AddLater(bus, intruder));

    // Registered after OutboxBus has registered its own.
    private static void AddLater(OutboxBusConfigurator bus, Intruder intruder)
        => bus.MassTransit(services => services.ConfigureDbContext<ShopDb>(options => options.AddInterceptors(intruder)));

    private async Task ExecuteAsync(string sql)
    {
        await using var connection = await Database.OpenAsync(Database.OwnerConnectionString);
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }

    public sealed record Renew(Guid Token);

    public sealed class Handler(Intruder intruder) : IMessageHandler<Renew>
    {
        public Task Handle(Renew message, IMessageContext context, CancellationToken cancellationToken)
        {
            intruder.Acts = async () =>
            {
                await context.CancelScheduled(message.Token, cancellationToken);
                await context.SchedulePublish(new OrderPlaced("anew"), Later, By(message.Token), cancellationToken);
            };
            return Task.CompletedTask;
        }
    }

    // Acts in one save, after the interceptor of OutboxBus.
    public sealed class Intruder : SaveChangesInterceptor
    {
        public Func<Task>? Acts { get; set; }

        public bool Suppresses { get; set; }

        public override async ValueTask<InterceptionResult<int>> SavingChangesAsync(DbContextEventData eventData, InterceptionResult<int> result, CancellationToken cancellationToken = default)
        {
            var (acts, _) = (Acts, Acts = null);
            if (acts is not null)
                await acts();
            return Suppresses ? InterceptionResult<int>.SuppressWithResult(0) : result;
        }
    }

    // Before the interceptor of OutboxBus hears of the end of a save.
    private sealed class AtTheEnd : SaveChangesInterceptor
    {
        public Order? Order { get; set; }

        public Func<Task>? Acts { get; set; }

        public override async ValueTask<int> SavedChangesAsync(SaveChangesCompletedEventData eventData, int result, CancellationToken cancellationToken = default)
        {
            var (acts, _) = (Acts, Acts = null);
            if (acts is not null)
                await acts();
            var (order, _) = (Order, Order = null);
            if (order is not null)
            {
                eventData.Context!.Add(order);
                await eventData.Context.SaveChangesAsync(cancellationToken);
            }

            return result;
        }
    }

    private sealed class Debugs(ConcurrentQueue<string> lines) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (eventId.Id == 106)
                lines.Enqueue(formatter(state, exception));
        }

        public void Dispose()
        {
        }
    }
}

public enum RefusedSave
{
    OfRow,
    OfRowOnOpenConnection,
    OfNothingElse,
}

// What became of a save whose changes were not accepted.
public enum UnacceptedEnd
{
    Committed,

    // In a way that EF Core does not see.
    AcceptedOnly,
    SameTransaction,
    RolledBack,
}

public enum IntruderPlace
{
    Save,
    ExplicitTransaction,
    WithoutSavepoints,
}

public sealed class CancellationsOnSqlite(SqliteDatabase database) : CancellationsOn<SqliteDatabase>(database)
{
    protected override string Refuse => "create trigger refuse before delete on outbox_message begin select raise(abort, 'refused'); end";

    protected override string NoLongerRefuse => "drop trigger refuse";

    protected override Task<string> PlanAsync(DbCommand statement)
    {
        statement.CommandText = $"explain query plan {statement.CommandText}";
        return TextAsync(statement);
    }
}

public sealed class CancellationsOnPostgreSql(PostgreSqlDatabase database) : CancellationsOn<PostgreSqlDatabase>(database)
{
    protected override string Refuse => """
        create or replace function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$;
        create trigger refuse before delete on outbox_message for each row execute function refuse()
        """;

    protected override string NoLongerRefuse => "drop trigger refuse on outbox_message";

    // As for a prepared statement whose plan was made once for all tokens.
    protected override async Task<string> PlanAsync(DbCommand statement)
    {
        var text = statement.CommandText.Replace("@tokens", "$1", StringComparison.Ordinal).Replace("@bus", "$2", StringComparison.Ordinal);
        await using var command = statement.Connection!.CreateCommand();
        command.CommandText = $"set plan_cache_mode = force_generic_plan; prepare cancelling (uuid[], text) as {text}";
        await command.ExecuteNonQueryAsync();
        command.CommandText = "explain execute cancelling (array[gen_random_uuid()], 'default')";
        return await TextAsync(command);
    }

    [SkippableTheory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public async Task A_connection_lost_before_the_statement_is_a_retry_of_the_execution_strategy(bool synchronous, bool several)
    {
        var killer = new KillOnBegin(this);
        await using var shop = Shop.Create(Database, context: options => options
            .UseNpgsql(Database.ConnectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null)).AddInterceptors(killer));
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            if (several)
                await outbox.SchedulePublish(new OrderPlaced("other"), Later);
            await outbox.CancelScheduled(token);
            killer.IsArmed = true;
            await SaveAsync(db, synchronous);
            db.Database.GetDbConnection().State.Should().Be(System.Data.ConnectionState.Closed);
        });

        killer.IsArmed.Should().BeFalse("one attempt has failed");
        (await MessagesAsync()).Should().Equal(several ? ["other"] : []);
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task The_commit_of_an_aborted_transaction_that_cancels_throws()
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.CancelScheduled(token);
            await db.SaveChangesAsync();
            await FluentActions.Awaiting(() => db.Database.ExecuteSqlRawAsync("select 1 / 0")).Should().ThrowAsync<PostgresException>();
            await FluentActions.Awaiting(() => transaction.CommitAsync()).Should().ThrowAsync<OutboxBusException>().WithMessage("*silent rollback*");
        });

        (await RowsAsync()).Should().HaveCount(1);
    }

    [SkippableTheory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_ambient_transaction_decides_about_an_unaccepted_cancellation(bool complete)
    {
        await using var shop = Shop.Create(Database);
        var token = Guid.NewGuid();
        await ScheduleAsync(shop, token);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.CancelScheduled(token);
            using (var ambient = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled))
            {
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                if (complete)
                    ambient.Complete();
            }

            if (complete)
                await ScheduleAsync(shop, token);
            await db.SaveChangesAsync();
        });

        (await RowsAsync()).Should().HaveCount(complete ? 1 : 0);
    }

    private async Task TerminateAsync(int processId)
    {
        await using var connection = await Database.OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = $"select pg_terminate_backend({processId})";
        await command.ExecuteScalarAsync();
        await Eventually.BecomesAsync(
            async () =>
            {
                command.CommandText = $"select exists (select from pg_stat_activity where pid = {processId})";
                return !(bool)(await command.ExecuteScalarAsync())!;
            },
            "the backend has ended");
    }

    // Comes before the interceptor of OutboxBus: the statement finds the connection dead.
    private sealed class KillOnBegin(CancellationsOnPostgreSql suite) : DbTransactionInterceptor
    {
        public bool IsArmed { get; set; }

        public override DbTransaction TransactionStarted(DbConnection connection, TransactionEndEventData eventData, DbTransaction result)
        {
            if (IsArmed)
                KillAsync(connection).GetAwaiter().GetResult();
            return result;
        }

        public override async ValueTask<DbTransaction> TransactionStartedAsync(DbConnection connection, TransactionEndEventData eventData, DbTransaction result, CancellationToken cancellationToken = default)
        {
            if (IsArmed)
                await KillAsync(connection);
            return result;
        }

        private Task KillAsync(DbConnection connection)
        {
            IsArmed = false;
            return suite.TerminateAsync(((NpgsqlConnection)connection).ProcessID);
        }
    }
}
