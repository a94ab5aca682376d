using System.Data.Common;
using System.Net.Sockets;
using System.Transactions;
using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Delivery;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// CommitOnceAsync commits rows and messages once, or reports an error and leaves nothing.
public abstract class CommitOnceOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Rows_messages_and_marker_are_committed_together(bool operationSaves)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync((db, outbox) => db.CommitOnceAsync(
            async cancellationToken =>
            {
                await PlaceAsync(db, outbox, "A-1");
                if (operationSaves)
                    await db.SaveChangesAsync(cancellationToken);
            },
            default));

        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Markers: 1));
    }

    [SkippableFact]
    public async Task Messages_are_handed_off_after_the_commit_and_need_no_verification()
    {
        await using var shop = Shop.Create(Database, delivers: true);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await db.CommitOnceAsync(
                async cancellationToken =>
                {
                    await PlaceAsync(db, outbox, "A-1");
                    await db.SaveChangesAsync(cancellationToken);
                    shop.HandOff.IsEmpty.Should().BeTrue();
                },
                default);

            shop.HandOff.TryTake(out var handedOff).Should().BeTrue();
            handedOff.Certainty.Should().Be(CommitCertainty.Proven);
            handedOff.Envelopes.Should().ContainSingle();
        });
    }

    [SkippableFact]
    public async Task An_operation_that_throws_leaves_nothing_and_can_be_tried_again()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            (await FluentActions.Awaiting(() => db.CommitOnceAsync(
                async cancellationToken =>
                {
                    await PlaceAsync(db, outbox, "A-1");
                    await db.SaveChangesAsync(cancellationToken);
                    await PlaceAsync(db, outbox, "A-2");
                    throw new InvalidOperationException("No stock.");
                },
                default)).Should().ThrowAsync<InvalidOperationException>()).WithMessage("No stock.");
            (await ContentAsync()).Should().Be(new Content("", Messages: 0, Markers: 0));

            await db.CommitOnceAsync(_ => PlaceAsync(db, outbox, "A-3"), default);
        });

        (await ContentAsync()).Should().Be(new Content("A-3", Messages: 1, Markers: 1));
        shop.Errors.Should().BeEmpty("the messages of the failed operation were not forgotten by anybody");
    }

    [SkippableFact]
    public async Task Afterwards_the_context_publishes_saves_and_commits_once_again()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await db.CommitOnceAsync(_ => PlaceAsync(db, outbox, "A-1"), default);
            await PlaceAsync(db, outbox, "A-2");
            (await db.SaveChangesAsync()).Should().Be(1);
            db.ChangeTracker.Clear();
            await db.CommitOnceAsync(_ => PlaceAsync(db, outbox, "A-3"), default);
            await db.CommitOnceAsync(_ => PlaceAsync(db, outbox, "A-4"), default);
        });

        (await ContentAsync()).Should().Be(new Content("A-1,A-2,A-3,A-4", Messages: 4, Markers: 3));
    }

    [SkippableFact]
    public async Task The_result_is_that_of_the_operation()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            var id = await db.CommitOnceAsync(
                async cancellationToken =>
                {
                    var order = new Order { Number = "A-1" };
                    db.Add(order);
                    await db.SaveChangesAsync(cancellationToken);
                    return order.Id;
                },
                default);

            (await db.Orders.SingleAsync()).Id.Should().Be(id);
        });
    }

    [SkippableFact]
    public async Task An_operation_that_ends_its_transaction_is_an_error()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
            (await FluentActions.Awaiting(() => db.CommitOnceAsync(cancellationToken => db.Database.RollbackTransactionAsync(cancellationToken), default)).Should().ThrowAsync<OutboxBusException>())
                .WithMessage("*has ended the transaction*"));
    }

    [SkippableTheory]
    [InlineData("nested", "*inside a message handler or another CommitOnceAsync*")]
    [InlineData("transaction", "*while a transaction is open*")]
    [InlineData("scope", "*while a transaction is open*")]
    [InlineData("message", "*1 message(s) published and not saved*")]
    [InlineData("change", "*while it tracks entities, such as one of type Order*")]
    [InlineData("loaded", "*while it tracks entities, such as one of type Order*")]
    public async Task What_a_retry_would_lose_or_repeat_is_refused(string misuse, string error)
    {
        await using var shop = Shop.Create(Database, bus => bus.Publishing(publishing => publishing.Unsaved = UnsavedMessages.Allow));
        await shop.InScopeAsync(async (db, _) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
        });
        var ran = false;

        await shop.InScopeAsync(async (db, outbox) =>
        {
            Task CommitOnceAsync() => db.CommitOnceAsync(
                _ =>
                {
                    ran = true;
                    return PlaceAsync(db, outbox, "A-2");
                },
                default);
            Func<Task> misused = misuse switch
            {
                "nested" => () => db.CommitOnceAsync(_ => CommitOnceAsync(), default),
                "transaction" => async () =>
                {
                    await using var transaction = await db.Database.BeginTransactionAsync();
                    await CommitOnceAsync();
                }
                ,
                "scope" => async () =>
                {
                    using var ambient = new TransactionScope(TransactionScopeAsyncFlowOption.Enabled);
                    await CommitOnceAsync();
                }
                ,
                "message" => async () =>
                {
                    await outbox.Publish(new OrderPlaced("A-2"));
                    await CommitOnceAsync();
                }
                ,
                "change" => () =>
                {
                    db.Add(new Order { Number = "A-2" });
                    return CommitOnceAsync();
                }
                ,
                _ => async () =>
                {
                    await db.Orders.SingleAsync();
                    await CommitOnceAsync();
                }
                ,
            };

            (await misused.Should().ThrowAsync<OutboxBusException>()).WithMessage(error);
        });

        ran.Should().BeFalse();
        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 0, Markers: 0));
    }

    [SkippableFact]
    public async Task Inside_a_handler_it_is_refused()
    {
        var refused = new TaskCompletionSource<Exception?>(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var shop = Shop.Create(
            Database, bus => bus.AddHandler<CommittingHandler>(), services => services.AddSingleton(refused), delivers: true);
        await shop.StartAsync();

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(new OrderPlaced("A-1"));
            await db.SaveChangesAsync();
        });

        (await refused.Task.WaitAsync(Eventually.Limit)).Should().BeOfType<OutboxBusException>().Which.Message.Should().Contain("inside a message handler");
        await shop.StopAsync();
    }

    [SkippableFact]
    public async Task A_context_without_an_outbox_is_refused()
    {
        await using var db = Database.CreateShop();

        (await FluentActions.Awaiting(() => db.CommitOnceAsync(_ => Task.CompletedTask, default)).Should().ThrowAsync<OutboxBusException>()).WithMessage("ShopDb has no outbox*");
    }

    private protected static Task PlaceAsync(ShopDb db, IOutboxContext outbox, string number)
    {
        db.Add(new Order { Number = number });
        return outbox.Publish(new OrderPlaced(number));
    }

    private protected async Task<Content> ContentAsync()
    {
        await using var db = Database.CreateShop();
        return new Content(
            string.Join(',', await db.Orders.Select(order => order.Number).Order().ToListAsync()),
            await db.Set<Envelope>().CountAsync(),
            await db.Set<InboxMessage>().CountAsync(record => record.Consumer == "$commit"));
    }

    private protected sealed record Content(string Orders, int Messages, int Markers);

    public sealed class CommittingHandler(ShopDb db, TaskCompletionSource<Exception?> refused) : IMessageHandler<OrderPlaced>
    {
        public async Task Handle(OrderPlaced message, IMessageContext context, CancellationToken cancellationToken)
            => refused.TrySetResult(await Record.ExceptionAsync(() => db.CommitOnceAsync(_ => Task.CompletedTask, cancellationToken)));
    }
}

public sealed class CommitOnceOnSqlite(SqliteDatabase database) : CommitOnceOn<SqliteDatabase>(database);

public sealed class CommitOnceOnPostgreSql(PostgreSqlDatabase database) : CommitOnceOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(Loss.Answer, true, 1)]
    [InlineData(Loss.Answer, false, 1)]
    [InlineData(Loss.Request, true, 2)]
    public async Task A_commit_whose_connection_is_lost_happens_once(Loss loss, bool retries, int expectedRuns)
    {
        await using var link = new PostgresLink(Database.ConnectionString);
        await using var shop = Shop.Create(Database, connectionString: link.ConnectionString, context: retries ? WithRetries(link) : null);
        var runs = 0;

        var result = 0;
        await shop.InScopeAsync(async (db, outbox) => result = await db.CommitOnceAsync(
            async _ =>
            {
                if (++runs == 1)
                    link.LoseNextCommit(loss);
                await PlaceAsync(db, outbox, "A-1");
                return runs;
            },
            default));

        link.Proxy.Lost.Should().Be(1);
        (runs, result).Should().Be((expectedRuns, expectedRuns));
        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Markers: 1));
    }

    [SkippableFact]
    public async Task Without_retries_a_commit_that_never_arrives_is_an_error_and_leaves_nothing()
    {
        await using var link = new PostgresLink(Database.ConnectionString);
        await using var shop = Shop.Create(Database, connectionString: link.ConnectionString);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            // Wrapped by Npgsql's strategy with the advice to enable retries.
            (await FluentActions.Awaiting(() => db.CommitOnceAsync(
                _ =>
                {
                    link.LoseNextCommit(Loss.Request);
                    return PlaceAsync(db, outbox, "A-1");
                },
                default)).Should().ThrowAsync<InvalidOperationException>()).WithInnerException<NpgsqlException>();
            (await ContentAsync()).Should().Be(new Content("", Messages: 0, Markers: 0));

            await db.CommitOnceAsync(_ => PlaceAsync(db, outbox, "A-2"), default);
        });

        (await ContentAsync()).Should().Be(new Content("A-2", Messages: 1, Markers: 1));
    }

    [SkippableFact]
    public async Task A_commit_that_cannot_be_asked_about_at_first_is_not_repeated_by_the_retry()
    {
        await using var link = new PostgresLink(Database.ConnectionString);
        var outage = new FailNextOpen();
        await using var shop = Shop.Create(Database, connectionString: link.ConnectionString, context: options => WithRetries(link)(options.AddInterceptors(outage)));
        var runs = 0;

        await shop.InScopeAsync((db, outbox) => db.CommitOnceAsync(
            _ =>
            {
                runs++;
                link.LoseNextCommit(Loss.Answer);
                outage.IsArmed = true;
                return PlaceAsync(db, outbox, "A-1");
            },
            default));

        outage.IsArmed.Should().BeFalse("the question failed");
        runs.Should().Be(1);
        (await ContentAsync()).Should().Be(new Content("A-1", Messages: 1, Markers: 1));
    }

    [SkippableFact]
    public async Task A_transient_error_repeats_the_operation_from_a_clean_start()
    {
        await using var link = new PostgresLink(Database.ConnectionString);
        await using var shop = Shop.Create(Database, context: WithRetries(Database.ConnectionString));
        var runs = 0;

        await shop.InScopeAsync((db, outbox) => db.CommitOnceAsync(
            async cancellationToken =>
            {
                db.ChangeTracker.Entries().Should().BeEmpty();
                await PlaceAsync(db, outbox, $"A-{++runs}");
                await db.SaveChangesAsync(cancellationToken);
                if (runs < 3)
                    throw new PostgresException("deadlock detected", "ERROR", "ERROR", PostgresErrorCodes.DeadlockDetected);
            },
            default));

        (await ContentAsync()).Should().Be(new Content("A-3", Messages: 1, Markers: 1));
    }

    private static Action<DbContextOptionsBuilder> WithRetries(PostgresLink link) => WithRetries(link.ConnectionString);

    private static Action<DbContextOptionsBuilder> WithRetries(string connectionString)
        => options => options.UseNpgsql(connectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null));

    // As if the server could not be reached, once.
    private sealed class FailNextOpen : DbConnectionInterceptor
    {
        public bool IsArmed { get; set; }

        public override ValueTask<InterceptionResult> ConnectionOpeningAsync(DbConnection connection, ConnectionEventData eventData, InterceptionResult result, CancellationToken cancellationToken = default)
        {
            if (!IsArmed)
                return new(result);
            IsArmed = false;
            throw new NpgsqlException("The server cannot be reached.", new SocketException());
        }
    }
}
