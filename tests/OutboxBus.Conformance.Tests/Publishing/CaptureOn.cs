using FluentAssertions;
using MassTransit;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests.Publishing;

// A message is stored if and only if the transaction of its unit of work commits.
public abstract class CaptureOn<TDatabase>(TDatabase database) : SuiteOn<TDatabase>(database)
    where TDatabase : TestDatabase
{
    private static readonly OrderPlaced Message = new("A-1");

    [SkippableFact]
    public async Task SaveChanges_stores_the_order_and_its_message()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            (await db.SaveChangesAsync()).Should().Be(1, "the caller counts its own rows");
        });

        (await OrdersAsync()).Should().Equal("A-1");
        var row = (await StoredAsync()).Single();
        row.MessageType.Should().Be("urn:message:OutboxBus.Conformance.Tests:OrderPlaced");
        row.Should().BeEquivalentTo(new { Bus = "default", Kind = 0, Attempts = 0, ClaimCount = 0, Seq = 0, Destination = (string?)null, DueAt = (DateTime?)null, ExpiresAt = (DateTime?)null });
        System.Text.Encoding.UTF8.GetString(row.Body).Should().Contain("\"A-1\"");
    }

    [SkippableFact]
    public async Task Synchronous_SaveChanges_stores_the_message_too()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            db.SaveChanges().Should().Be(1);
        });

        (await StoredAsync()).Should().HaveCount(1);
    }

    [SkippableFact]
    public async Task A_failing_SaveChanges_stores_neither()
    {
        await using var shop = Shop.Create(Database);
        await shop.InScopeAsync(async (db, _) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
        });

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            await db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
        });

        (await OrdersAsync()).Should().HaveCount(1);
        (await StoredAsync()).Should().BeEmpty();
        shop.Errors.Should().ContainSingle().Which.Should().Contain("never saved");
    }

    [SkippableFact]
    public async Task A_message_alone_is_saved()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(Message);
            (await db.SaveChangesAsync()).Should().Be(0);
        });

        (await StoredAsync()).Should().HaveCount(1);
        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData(Ending.Commit, 1)]
    [InlineData(Ending.Rollback, 0)]
    [InlineData(Ending.Dispose, 0)]
    public async Task An_explicit_transaction_decides(Ending ending, int stored)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = await db.Database.BeginTransactionAsync();
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            (await db.SaveChangesAsync()).Should().Be(1);
            if (ending == Ending.Commit)
                await transaction.CommitAsync();
            else if (ending == Ending.Rollback)
                await transaction.RollbackAsync();
        });

        (await OrdersAsync()).Should().HaveCount(stored);
        (await StoredAsync()).Should().HaveCount(stored);
    }

    [SkippableFact]
    public async Task A_transaction_that_came_to_nothing_does_not_disturb_the_next()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using (await db.Database.BeginTransactionAsync())
            {
                await outbox.Publish(new OrderPlaced("lost"));
                await db.SaveChangesAsync();
            }

            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(new OrderPlaced("kept"));
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
            db.ChangeTracker.Entries<Envelope>().Should().BeEmpty();
        });

        (await NumbersAsync()).Should().Equal("kept");
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Two_saves_in_one_scope_store_each_message_once(bool explicitTransaction)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = explicitTransaction ? await db.Database.BeginTransactionAsync() : null;
            await outbox.Publish(new OrderPlaced("1"));
            await db.SaveChangesAsync();
            await outbox.Publish(new OrderPlaced("2"));
            db.Add(new Order { Number = "A-1" });
            (await db.SaveChangesAsync()).Should().Be(1);
            (await db.SaveChangesAsync()).Should().Be(0);
            if (transaction is not null)
                await transaction.CommitAsync();
        });

        (await NumbersAsync()).Should().Equal("1", "2");
        (await StoredAsync()).Select(row => row.Seq).Should().Equal(0, 1);
    }

    [SkippableFact]
    public async Task A_save_that_fails_and_is_repeated_stores_the_message_once()
    {
        await using var shop = Shop.Create(Database);
        await shop.InScopeAsync(async (db, _) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
        });

        await shop.InScopeAsync(async (db, outbox) =>
        {
            var order = new Order { Number = "A-1" };
            db.Add(order);
            await outbox.Publish(Message);
            await db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
            order.Number = "A-2";
            (await db.SaveChangesAsync()).Should().Be(1);
        });

        (await StoredAsync()).Should().HaveCount(1);
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task A_message_dropped_with_the_change_tracker_is_reported()
    {
        await using var shop = Shop.Create(Database);
        await shop.InScopeAsync(async (db, _) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
        });

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            await db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
            db.ChangeTracker.Clear();
            db.Add(new Order { Number = "A-2" });
            (await db.SaveChangesAsync()).Should().Be(1);
        });

        (await StoredAsync()).Should().BeEmpty();
        shop.Errors.Should().ContainSingle().Which.Should().Contain("never saved");
    }

    [SkippableFact]
    public async Task A_transaction_tried_again_with_unaccepted_changes_stores_what_it_stored_before()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            await using (var failed = await db.Database.BeginTransactionAsync())
            {
                await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
                await failed.RollbackAsync();
            }

            await using var transaction = await db.Database.BeginTransactionAsync();
            await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
            await transaction.CommitAsync();
            db.ChangeTracker.AcceptAllChanges();
            await db.SaveChangesAsync();
        });

        (await OrdersAsync()).Should().Equal("A-1");
        (await StoredAsync()).Should().HaveCount(1);
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Unaccepted_changes_saved_again_store_the_message_once(bool explicitTransaction)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await using var transaction = explicitTransaction ? await db.Database.BeginTransactionAsync() : null;
            await outbox.Publish(Message);
            await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
            await db.SaveChangesAsync(acceptAllChangesOnSuccess: false);
            if (transaction is not null)
                await transaction.CommitAsync();
        });

        (await StoredAsync()).Should().HaveCount(1);
    }

    [SkippableFact]
    public async Task Without_any_transaction_a_message_is_refused()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.AutoTransactionBehavior = AutoTransactionBehavior.Never;
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(Message);
            await db.Awaiting(unsafeSave => unsafeSave.SaveChangesAsync()).Should().ThrowAsync<OutboxBusException>().WithMessage("*AutoTransactionBehavior*Begin a transaction*");
        });

        (await OrdersAsync()).Should().BeEmpty();
        (await StoredAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task With_a_transaction_of_the_caller_AutoTransactionBehavior_Never_is_welcome()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Database.AutoTransactionBehavior = AutoTransactionBehavior.Never;
            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(Message);
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
        });

        (await StoredAsync()).Should().HaveCount(1);
    }

    [SkippableFact]
    public async Task A_pooled_context_takes_no_message_into_its_next_use()
    {
        await using var shop = Shop.Create(Database, pooled: true);
        ShopDb? first = null;
        await shop.InScopeAsync(async (db, outbox) =>
        {
            first = db;
            await outbox.Publish(new OrderPlaced("never saved"));
        });

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Should().BeSameAs(first, "the pool holds one context");
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("saved"));
            (await db.SaveChangesAsync()).Should().Be(1);
        });

        (await NumbersAsync()).Should().Equal("saved");
        shop.Errors.Should().ContainSingle();
    }

    [SkippableFact]
    public async Task A_pooled_context_returned_within_a_failed_save_takes_no_message_into_its_next_use()
    {
        await using var shop = Shop.Create(Database, pooled: true);
        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await db.SaveChangesAsync();
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("failed"));
            await db.Awaiting(failing => failing.SaveChangesAsync()).Should().ThrowAsync<DbUpdateException>();
        });

        await shop.InScopeAsync(async (db, _) => (await db.SaveChangesAsync()).Should().Be(0));

        (await StoredAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Envelopes_leave_the_change_tracker_after_the_commit()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(Message);
            await db.SaveChangesAsync();
            db.ChangeTracker.Entries().Should().BeEmpty();

            await using var transaction = await db.Database.BeginTransactionAsync();
            await outbox.Publish(Message);
            await db.SaveChangesAsync();
            await transaction.CommitAsync();
            db.ChangeTracker.Entries().Should().BeEmpty();
        });
    }

    [SkippableFact]
    public async Task Plain_endpoints_of_the_scope_are_captured()
    {
        await using var shop = Shop.Create(Database);
        await using (var scope = shop.Scope())
        {
            await scope.ServiceProvider.GetRequiredService<IPublishEndpoint>().Publish(new OrderPlaced("published"));
            var endpoint = await scope.ServiceProvider.GetRequiredService<ISendEndpointProvider>().GetSendEndpoint(new Uri("queue:stock"));
            await endpoint.Send(new OrderPlaced("sent"));
            await scope.ServiceProvider.GetRequiredService<ShopDb>().SaveChangesAsync();
        }

        (await NumbersAsync()).Should().Equal("published", "sent");
        (await StoredAsync()).Select(row => row.Destination is null).Should().Equal(true, false);
        (await StoredAsync())[1].Destination.Should().Contain("/stock");
    }

    [SkippableFact]
    public async Task A_publisher_that_depends_on_the_context_finds_it()
    {
        await using var shop = Shop.Create(Database, services: services => services.AddScoped<OrderService>());
        await using (var scope = shop.Scope())
            await scope.ServiceProvider.GetRequiredService<OrderService>().PlaceAsync("A-1");

        (await NumbersAsync()).Should().Equal("A-1");
        (await OrdersAsync()).Should().Equal("A-1");
    }

    [SkippableFact]
    public async Task Parallel_publishes_of_one_scope_are_all_stored()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await Task.WhenAll(Enumerable.Range(0, 50).Select(number => Task.Run(() => outbox.Publish(new OrderPlaced($"{number}")))));
            await db.SaveChangesAsync();
        });

        (await NumbersAsync()).Should().BeEquivalentTo(Enumerable.Range(0, 50).Select(number => $"{number}"));
        (await StoredAsync()).Select(row => row.Seq).Should().BeEquivalentTo(Enumerable.Range(0, 50));
    }

    [SkippableTheory]
    [InlineData(UnsavedMessages.Log, 1, false)]
    [InlineData(UnsavedMessages.Throw, 1, true)]
    [InlineData(UnsavedMessages.Allow, 0, false)]
    public async Task Messages_never_saved_are_reported_as_the_option_says(UnsavedMessages option, int logged, bool thrown)
    {
        await using var shop = Shop.Create(Database, bus => bus.Publishing(publishing => publishing.Unsaved = option));
        using var unsaved = new CounterOf("outboxbus.unsaved");

        var ending = shop.Awaiting(host => host.InScopeAsync((_, outbox) => outbox.Publish(Message)));

        if (thrown)
            await ending.Should().ThrowAsync<OutboxBusException>().WithMessage("1 captured message(s) were never saved*OrderPlaced*");
        else
            await ending.Should().NotThrowAsync();
        shop.Errors.Should().HaveCount(logged);
        unsaved.Total.Should().BeGreaterThanOrEqualTo(1);
    }

    [SkippableFact]
    public async Task With_delivery_off_a_row_is_claimable_at_once_by_others()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(PublishAndSaveAsync);

        (await StoredAsync()).Single().VisibleAt.Should().Be(DateTime.UnixEpoch);
    }

    [SkippableFact]
    public async Task With_delivery_on_a_row_is_leased_by_the_clock_of_the_database()
    {
        // The process's clock is years behind: it must not matter.
        var clock = new FakeTimeProvider(new DateTimeOffset(2001, 1, 1, 0, 0, 0, TimeSpan.Zero));
        await using var shop = Shop.Create(Database, services: services => services.AddSingleton<TimeProvider>(clock), delivers: true);
        var before = await Database.NowAsync();

        await shop.InScopeAsync(PublishAndSaveAsync);

        var after = await Database.NowAsync();
        var row = (await StoredAsync()).Single();
        row.VisibleAt.Should().BeOnOrAfter(before.AddSeconds(30)).And.BeOnOrBefore(after.AddSeconds(30));
        row.CreatedAt.Should().BeOnOrAfter(before).And.BeOnOrBefore(after);
    }

    [SkippableTheory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public async Task A_delayed_message_becomes_visible_when_it_is_due(bool asDelay, bool delivers)
    {
        var now = new DateTimeOffset(2030, 1, 2, 3, 4, 5, TimeSpan.Zero);
        await using var shop = Shop.Create(Database, services: services => services.AddSingleton<TimeProvider>(new FakeTimeProvider(now)), delivers: delivers);
        var options = asDelay ? new PublishOptions { Delay = TimeSpan.FromHours(2) } : new PublishOptions { DueAt = now.AddHours(2).ToOffset(TimeSpan.FromHours(5)) };

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(Message, options);
            await db.SaveChangesAsync();
        });

        var row = (await StoredAsync()).Single();
        row.DueAt.Should().Be(now.AddHours(2).UtcDateTime);
        row.VisibleAt.Should().Be(now.AddHours(2).UtcDateTime);
        shop.HandOff.IsEmpty.Should().BeTrue("a delayed message is claimed when due");
    }

    [SkippableFact]
    public async Task A_message_due_in_the_past_is_sent_like_any_other()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(Message, new PublishOptions { DueAt = DateTimeOffset.UtcNow.AddDays(-1) });
            await db.SaveChangesAsync();
        });

        (await StoredAsync()).Single().Should().BeEquivalentTo(new { DueAt = (DateTime?)null, VisibleAt = DateTime.UnixEpoch });
    }

    [SkippableFact]
    public async Task Options_are_stored_with_the_message()
    {
        var now = new DateTimeOffset(2030, 1, 2, 3, 4, 5, TimeSpan.Zero);
        await using var shop = Shop.Create(Database, services: services => services.AddSingleton<TimeProvider>(new FakeTimeProvider(now)));
        var (messageId, correlationId) = (Guid.NewGuid(), Guid.NewGuid());

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Publish(Message, new PublishOptions
            {
                MessageId = messageId,
                CorrelationId = correlationId,
                TimeToLive = TimeSpan.FromMinutes(5),
                RequireRoute = true,
                Headers = new Dictionary<string, object?> { ["tenant"] = "it's \"ours\" 😀", ["try"] = 7 },
            });
            await db.SaveChangesAsync();
        });

        var row = (await StoredAsync()).Single();
        row.MessageId.Should().Be(messageId);
        row.ExpiresAt.Should().Be(now.AddMinutes(5).UtcDateTime);
        row.Properties.Should().Contain(correlationId.ToString());
        System.Text.Json.JsonDocument.Parse(row.Headers!).RootElement.GetProperty("tenant").GetString().Should().Be("it's \"ours\" 😀");
        System.Text.Json.JsonDocument.Parse(row.Headers!).RootElement.GetProperty("try").GetInt32().Should().Be(7);
    }

    [SkippableFact]
    public async Task A_body_over_the_limit_is_refused_and_nothing_is_stored()
    {
        await using var shop = Shop.Create(Database, bus => bus.Publishing(publishing => publishing.MaxBodyBytes = 2000));

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Awaiting(limited => limited.Publish(new OrderPlaced(new string('x', 2001)))).Should().ThrowAsync<MessageTooLargeException>().WithMessage("*limit is 2000 (Publishing.MaxBodyBytes)*");
            await db.SaveChangesAsync();
        });

        (await StoredAsync()).Should().BeEmpty();
        shop.Errors.Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Headers_over_the_limit_are_refused_and_nothing_is_stored()
    {
        await using var shop = Shop.Create(Database, bus => bus.Publishing(publishing => publishing.MaxHeaderBytes = 2000));
        var options = new PublishOptions { Headers = new Dictionary<string, object?> { ["large"] = new string('x', 2001) } };

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Awaiting(limited => limited.Publish(Message, options)).Should().ThrowAsync<MessageTooLargeException>().WithMessage("*limit is 2000 (Publishing.MaxHeaderBytes)*");
            await db.SaveChangesAsync();
        });

        (await StoredAsync()).Should().BeEmpty();
    }

    [SkippableFact]
    public async Task Null_messages_are_refused()
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (_, outbox) =>
        {
            await outbox.Awaiting(strict => strict.Publish<OrderPlaced>(null!)).Should().ThrowAsync<ArgumentNullException>();
            await outbox.Awaiting(strict => strict.Publish(null!, typeof(OrderPlaced))).Should().ThrowAsync<ArgumentNullException>();
            await outbox.Awaiting(strict => strict.Send<OrderPlaced>("stock", null!)).Should().ThrowAsync<ArgumentNullException>();
            await outbox.Awaiting(strict => strict.Publish("text", typeof(OrderPlaced))).Should().ThrowAsync<ArgumentException>().WithMessage("*String*OrderPlaced*");
        });
    }

    [SkippableTheory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData(" ")]
    [InlineData("no queue")]
    [InlineData("stock/orders")]
    [InlineData("::")]
    [InlineData("unknown:stock")]
    public async Task A_destination_that_is_none_is_refused(string? destination)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync((_, outbox) => outbox.Awaiting(strict => strict.Send(destination!, Message)).Should().ThrowAsync<ArgumentException>().WithMessage("*is no destination*queue:stock*"));

        shop.Errors.Should().BeEmpty();
    }

    [SkippableTheory]
    [InlineData("stock")]
    [InlineData("queue:stock")]
    public async Task A_queue_is_addressed_by_name_or_address(string destination)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync(async (db, outbox) =>
        {
            await outbox.Send(destination, Message);
            await db.SaveChangesAsync();
        });

        (await StoredAsync()).Single().Destination.Should().Contain("/stock");
    }

    [SkippableTheory]
    [MemberData(nameof(WrongOptions.All), MemberType = typeof(WrongOptions))]
    public async Task Contradictory_options_are_refused(PublishOptions options)
    {
        await using var shop = Shop.Create(Database);

        await shop.InScopeAsync((_, outbox) => outbox.Awaiting(strict => strict.Publish(Message, options)).Should().ThrowAsync<ArgumentException>());
    }

    private protected static async Task PublishAndSaveAsync(ShopDb db, IOutboxContext outbox)
    {
        await outbox.Publish(Message);
        await db.SaveChangesAsync();
    }

    private protected async Task<List<Envelope>> StoredAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Set<Envelope>().AsNoTracking().OrderBy(row => row.Id).ToListAsync();
    }

    private protected async Task<List<string>> OrdersAsync()
    {
        await using var context = Database.CreateShop();
        return await context.Orders.OrderBy(order => order.Id).Select(order => order.Number).ToListAsync();
    }

    private protected async Task<IEnumerable<string>> NumbersAsync()
        => (await StoredAsync()).Select(row => System.Text.Json.JsonDocument.Parse(row.Body).RootElement.GetProperty("message").GetProperty("number").GetString()!);

    private sealed class OrderService(ShopDb db, IPublishEndpoint publisher)
    {
        public async Task PlaceAsync(string number)
        {
            db.Add(new Order { Number = number });
            await publisher.Publish(new OrderPlaced(number));
            await db.SaveChangesAsync();
        }
    }
}

public static class WrongOptions
{
    public static TheoryData<PublishOptions> All() => new(
        new PublishOptions { Delay = TimeSpan.FromSeconds(-1) },
        new PublishOptions { Delay = TimeSpan.Zero, DueAt = DateTimeOffset.UnixEpoch },
        new PublishOptions { TimeToLive = TimeSpan.Zero },
        new PublishOptions { MessageId = Guid.Empty });
}

public enum Ending
{
    Commit,
    Rollback,
    Dispose,
}

public sealed class CaptureOnSqlite(SqliteDatabase database) : CaptureOn<SqliteDatabase>(database);

public sealed class CaptureOnPostgreSql(PostgreSqlDatabase database) : CaptureOn<PostgreSqlDatabase>(database)
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_save_repeated_by_a_retrying_strategy_stores_the_message_once(bool explicitTransaction)
    {
        var faults = new FailOnce();
        await using var shop = Shop.Create(
            Database,
            context: options => options.UseNpgsql(Database.ConnectionString, npgsql => npgsql.EnableRetryOnFailure(3, TimeSpan.Zero, null)).AddInterceptors(faults));

        await shop.InScopeAsync(async (db, outbox) =>
        {
            db.Add(new Order { Number = "A-1" });
            await outbox.Publish(new OrderPlaced("A-1"));
            if (explicitTransaction)
                await db.Database.CreateExecutionStrategy().ExecuteAsync(() => SaveInTransactionAsync(db));
            else
                await db.SaveChangesAsync();
        });

        faults.Failures.Should().Be(1);
        (await OrdersAsync()).Should().Equal("A-1");
        (await StoredAsync()).Should().HaveCount(1);
    }

    private static async Task SaveInTransactionAsync(ShopDb db)
    {
        await using var transaction = await db.Database.BeginTransactionAsync();
        await db.SaveChangesAsync();
        await transaction.CommitAsync();
    }
}
