using OutboxBus.Conformance.Tests.Engines;
using Xunit;

namespace OutboxBus.Conformance.Tests;

// What every suite needs: an engine's database with empty tables before each test.
public abstract class SuiteOn<TDatabase>(TDatabase database) : IClassFixture<TDatabase>, IAsyncLifetime
    where TDatabase : TestDatabase
{
    protected TDatabase Database => database;

    public async Task InitializeAsync()
    {
        await database.ReadyAsync();
        await database.ClearAsync();
    }

    public virtual Task DisposeAsync() => Task.CompletedTask;
}
