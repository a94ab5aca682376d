using Microsoft.EntityFrameworkCore.Migrations;
using Microsoft.EntityFrameworkCore.Storage;

namespace OutboxBus.Testing.Database;

/// <summary>Makes an application that migrates its database when it starts create the tables of its model: its migrations are those of another engine.</summary>
internal sealed class ModelMigrator(IRelationalDatabaseCreator creator) : IMigrator
{
    public void Migrate(string? targetMigration = null) => creator.EnsureCreated();

    public Task MigrateAsync(string? targetMigration = null, CancellationToken cancellationToken = default) => creator.EnsureCreatedAsync(cancellationToken);

    public string GenerateScript(string? fromMigration = null, string? toMigration = null, MigrationsSqlGenerationOptions options = MigrationsSqlGenerationOptions.Default)
        => creator.GenerateCreateScript();

    public bool HasPendingModelChanges() => false;
}
