using FluentAssertions;
using Npgsql;
using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.PostgreSql;
using OutboxBus.Storage;
using OutboxBus.TestServers;
using Xunit;

namespace OutboxBus.Conformance.Tests.Storage;

// What an error means is read from its code: a server that answers in another language is understood as well.
public sealed class InOtherLanguages
{
    private static readonly PostgreSqlDialect Dialect = new(new OutboxTables());
    private static readonly InboxKey Key = new(Guid.Parse("5a3e8f50-8f57-4c1e-9d0a-3f1d2c4b5a69"), "stock:OrderPlaced");

    private static readonly (string Code, DatabaseError Meaning, Func<string, Task> Provoke)[] Errors =
    [
        (PostgresErrorCodes.UndefinedTable, DatabaseError.MissingSchema, database => ExecuteAsync(database, "select 1 from nowhere")),
        (PostgresErrorCodes.UndefinedColumn, DatabaseError.MissingSchema, database => ExecuteAsync(database, "select nothing from inbox_message")),
        (PostgresErrorCodes.InvalidSchemaName, DatabaseError.MissingSchema, database => ExecuteAsync(database, "create table nowhere.orders (id int)")),
        (PostgresErrorCodes.LockNotAvailable, DatabaseError.Contention, WaitForLockAsync),
        (PostgresErrorCodes.DeadlockDetected, DatabaseError.Contention, DeadlockAsync),
        (PostgresErrorCodes.QueryCanceled, DatabaseError.Contention, database => ExecuteAsync(database, "set statement_timeout = 1", "select pg_sleep(60)")),
        (PostgresErrorCodes.ReadOnlySqlTransaction, DatabaseError.Unavailable, database => ExecuteAsync(database, "set default_transaction_read_only = on", "delete from inbox_message")),
        (PostgresErrorCodes.AdminShutdown, DatabaseError.Unavailable, database => ExecuteAsync(database, "select pg_terminate_backend(pg_backend_pid())")),
    ];

    [SkippableTheory]
    [InlineData("de_DE", "Division durch Null")]
    [InlineData("ru_RU", "деление на ноль")]
    public async Task Errors_mean_the_same(string language, string divisionByZero)
    {
        var reason = PostgresServer.CannotSpeak(language);
        Skip.If(reason is not null, reason);
        await using var server = await Servers.PrivatePostgresAsync(language);
        var english = await CreateAsync(server, "C");
        var translated = await CreateAsync(server, $"{language}.UTF-8");
        (await ErrorAsync(translated, database => ExecuteAsync(database, "select 1 / 0"))).MessageText.Should().Be(divisionByZero);

        foreach (var (code, meaning, provoke) in Errors)
        {
            var error = await ErrorAsync(translated, provoke);

            error.SqlState.Should().Be(code);
            error.MessageText.Should().NotBe((await ErrorAsync(english, provoke)).MessageText, "it is said in another language");
            Dialect.Classify(error).Should().Be(meaning, $"it is {code}");
        }

        await InboxWorksAsync(translated);
        await MissingTablesAreNamedAsync(translated);
        await ShutdownIsUnderstoodAsync(server, translated);
        ClearPools(english, translated);
    }

    private static async Task InboxWorksAsync(string database)
    {
        await using var connection = await OpenAsync(database);
        var affected = new List<int>();
        for (var time = 0; time < 2; time++)
        {
            await using var command = connection.CreateCommand();
            Dialect.RecordConsumed(command, Key);
            affected.Add(await command.ExecuteNonQueryAsync());
        }

        affected.Should().Equal(1, 0);
    }

    private static async Task MissingTablesAreNamedAsync(string database)
    {
        await ExecuteAsync(database, "drop table outbox_dead_letter");

        await new PostgreSqlDatabase().CreateStore(connectionString: database).Awaiting(store => store.CheckSchemaAsync(default))
            .Should().ThrowAsync<OutboxBusException>().WithMessage("*missing or incomplete*Remedy:*");
    }

    private static async Task ShutdownIsUnderstoodAsync(PostgresServer server, string database)
    {
        await using var connection = await OpenAsync(database);
        await using var command = new NpgsqlCommand("select pg_sleep(60)", connection);
        var asleep = command.ExecuteNonQueryAsync();

        await server.StopAsync();

        var error = (await FluentActions.Awaiting(() => asleep).Should().ThrowAsync<NpgsqlException>()).Which;
        Dialect.Classify(error).Should().Be(DatabaseError.Unavailable);
    }

    private static async Task<string> CreateAsync(PostgresServer server, string language)
    {
        var database = await server.CreateDatabaseAsync("language");
        await ExecuteAsync(
            database,
            $"alter database {new NpgsqlConnectionStringBuilder(database).Database} set lc_messages = '{language}'",
            Dialect.CreateScript(TimeSpan.FromSeconds(30)));
        ClearPools(database);
        return database;
    }

    private static async Task WaitForLockAsync(string database)
    {
        await using var holder = await OpenAsync(database);
        await using var transaction = await holder.BeginTransactionAsync();
        await using var hold = new NpgsqlCommand("lock table inbox_message", holder);
        await hold.ExecuteNonQueryAsync();

        await ExecuteAsync(database, "set lock_timeout = 1", "select 1 from inbox_message");
    }

    // Each of two holds what the other wants; the server ends one of them.
    private static async Task DeadlockAsync(string database)
    {
        await using var first = await OpenAsync(database);
        await using var second = await OpenAsync(database);
        await ExecuteAsync(first, "set deadlock_timeout = 1", "select pg_advisory_lock(1)");
        await ExecuteAsync(second, "set deadlock_timeout = 1", "select pg_advisory_lock(2)");
        await Task.WhenAll(TakeAndReleaseAsync(first, 2, 1), TakeAndReleaseAsync(second, 1, 2));

        // The one that lost lets the other one go on.
        static async Task TakeAndReleaseAsync(NpgsqlConnection connection, int wanted, int held)
        {
            try
            {
                await ExecuteAsync(connection, $"select pg_advisory_lock({wanted})");
            }
            finally
            {
                await ExecuteAsync(connection, $"select pg_advisory_unlock({held})");
            }
        }
    }

    private static async Task<PostgresException> ErrorAsync(string database, Func<string, Task> provoke)
        => (await FluentActions.Awaiting(() => provoke(database)).Should().ThrowAsync<PostgresException>()).Which;

    private static async Task<NpgsqlConnection> OpenAsync(string database)
    {
        var connection = new NpgsqlConnection(database);
        await connection.OpenAsync();
        return connection;
    }

    private static async Task ExecuteAsync(string database, params string[] statements)
    {
        await using var connection = await OpenAsync(database);
        await ExecuteAsync(connection, statements);
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, params string[] statements)
    {
        foreach (var statement in statements)
        {
            await using var command = new NpgsqlCommand(statement, connection);
            await command.ExecuteNonQueryAsync();
        }
    }

    private static void ClearPools(params string[] databases)
    {
        foreach (var database in databases)
        {
            using var connection = new NpgsqlConnection(database);
            NpgsqlConnection.ClearPool(connection);
        }
    }
}
