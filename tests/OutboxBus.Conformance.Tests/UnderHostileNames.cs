using OutboxBus.Conformance.Tests.Engines;
using OutboxBus.Conformance.Tests.Publishing;
using OutboxBus.Conformance.Tests.Storage;

namespace OutboxBus.Conformance.Tests;

// Everything works whatever the tables are called.
public sealed class StatementsUnderHostileNamesOnSqlite(HostileSqliteDatabase database) : StatementsOn<HostileSqliteDatabase>(database);

public sealed class StatementsUnderHostileNamesOnPostgreSql(HostilePostgreSqlDatabase database) : StatementsOn<HostilePostgreSqlDatabase>(database);

public sealed class InboxUnderHostileNamesOnSqlite(HostileSqliteDatabase database) : InboxOn<HostileSqliteDatabase>(database);

public sealed class InboxUnderHostileNamesOnPostgreSql(HostilePostgreSqlDatabase database) : InboxOn<HostilePostgreSqlDatabase>(database);

public sealed class CaptureUnderHostileNamesOnSqlite(HostileSqliteDatabase database) : CaptureOn<HostileSqliteDatabase>(database);

public sealed class CaptureUnderHostileNamesOnPostgreSql(HostilePostgreSqlDatabase database) : CaptureOn<HostilePostgreSqlDatabase>(database);

public sealed class HandOffUnderHostileNamesOnSqlite(HostileSqliteDatabase database) : HandOffOn<HostileSqliteDatabase>(database);

public sealed class HandOffUnderHostileNamesOnPostgreSql(HostilePostgreSqlDatabase database) : HandOffOn<HostilePostgreSqlDatabase>(database);
