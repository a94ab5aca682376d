namespace OutboxBus.TestServers.Finding;

// Open throws when this source has no server; the message becomes part of the reason for skipping.
internal sealed record ServerSource<TServer>(string Name, Func<Task<TServer>> Open);
