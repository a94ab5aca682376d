using FluentAssertions;
using Microsoft.EntityFrameworkCore;
using OutboxBus.EndToEnd.Tests.Support;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using OutboxBus.Workload;

namespace OutboxBus.EndToEnd.Tests.Killing;

/// <summary>The books of a kill test: what was committed, what came of it, and what is still under way.</summary>
internal sealed class Ledger : IAsyncDisposable
{
    private const string Spy = "spy";

    private readonly DbContextOptions<LedgerDb> _options;

    private Ledger(string postgres, Uri rabbitMq, RawBroker broker)
    {
        _options = new DbContextOptionsBuilder<LedgerDb>().UseNpgsql(postgres).Options;
        Settings = new Settings { Postgres = postgres, RabbitMq = rabbitMq.AbsoluteUri };
        Broker = broker;
    }

    /// <summary>Of a process that places no orders and consumes nothing, but delivers.</summary>
    public Settings Settings { get; }

    public RawBroker Broker { get; }

    public static async Task<Ledger> OpenAsync()
    {
        var rabbitMq = await Servers.RabbitMqVirtualHostAsync("kill");
        var ledger = new Ledger(await Servers.PostgresDatabaseAsync("kill"), rabbitMq, await RawBroker.ConnectAsync(rabbitMq));
        await using var db = ledger.Read();
        await db.Database.EnsureCreatedAsync();
        // The handlers' queues must exist before anything is published, and a second subscriber counts what is sent.
        await using (await Worker.StartAsync(ledger.Settings with { Consumes = true, Delivers = false }))
            await ledger.Broker.BindAsync(Spy, typeof(Workload.OrderPlaced));
        return ledger;
    }

    /// <summary>Lets the rows that are inserted from now on be leased for longer: on a busy machine no send may outlast its lease.</summary>
    public async Task LeaseFreshRowsAsync(TimeSpan lease)
    {
        await using var db = Read();
        await db.Database.OpenConnectionAsync();
        await using var alter = db.Database.GetDbConnection().CreateCommand();
        alter.CommandText = $"alter table {OutboxTables.DefaultOutbox} alter column visible_at set default clock_timestamp() + interval '{(int)lease.TotalSeconds} seconds'";
        await alter.ExecuteNonQueryAsync();
    }

    public LedgerDb Read() => new(_options);

    public async Task<int> OrdersAsync()
    {
        await using var db = Read();
        return await db.Orders.CountAsync();
    }

    public async Task<List<Envelope>> OutboxAsync()
    {
        await using var db = Read();
        return await db.Outbox.AsNoTracking().OrderBy(row => row.Id).ToListAsync();
    }

    /// <summary>How often messages of type <see cref="Workload.OrderPlaced"/> were sent so far, repetitions included.</summary>
    public async Task<uint> SentAsync() => (await Broker.CountAsync(Spy))!.Value;

    /// <summary>Lets a fresh process do what is left, and closes the books.</summary>
    public async Task RecoverAndBalanceAsync(InboxMode inbox = InboxMode.First)
    {
        await using var worker = await Worker.StartAsync(Settings with { Consumes = true, Inbox = inbox });
        await Eventually.BecomesAsync(BalanceAsync, balance => balance.IsSettled, "the outbox is empty and every order is reserved and confirmed");
        await worker.StopAsync();
        await AssertBalancedAsync();
    }

    /// <summary>Nothing lost, nothing doubled, nothing from nowhere, nothing left.</summary>
    public async Task AssertBalancedAsync()
    {
        await using var db = Read();
        var orders = await db.Orders.Select(order => order.Id).ToListAsync();
        (await db.Reservations.Select(reservation => reservation.OrderId).ToListAsync()).Should().BeEquivalentTo(orders, "every order is reserved exactly once");
        (await db.Confirmations.Select(confirmation => confirmation.OrderId).ToListAsync()).Should().BeEquivalentTo(orders, "every order is confirmed exactly once");
        (await db.HandlerEntries.Select(entry => entry.OrderId).Distinct().ToListAsync()).Should().BeEquivalentTo(orders, "handlers see committed orders only");
        (await db.Outbox.CountAsync()).Should().Be(0);
        (await db.DeadLetters.Select(letter => $"{letter.Reason} after {letter.ClaimCount} claims: {letter.Error}").ToListAsync()).Should().BeEmpty();
        foreach (var queue in (string[])["reserve-stock", "confirm-order"])
        {
            (await Broker.CountAsync(queue)).Should().Be(0);
            (await Broker.CountAsync($"{queue}_error")).Should().BeNull();
            (await Broker.CountAsync($"{queue}_skipped")).Should().BeNull();
        }
    }

    public async Task<Balance> BalanceAsync()
    {
        await using var db = Read();
        return new Balance(await db.Orders.CountAsync(), await db.Reservations.CountAsync(), await db.Confirmations.CountAsync(), await db.Outbox.CountAsync());
    }

    public ValueTask DisposeAsync() => Broker.DisposeAsync();
}

internal sealed record Balance(int Orders, int Reservations, int Confirmations, int Outbox)
{
    public bool IsSettled => Outbox == 0 && Reservations >= Orders && Confirmations >= Orders;
}
