namespace OutboxBus.TestServers.Processes;

internal sealed class ServerUnavailableException(string message, Exception? inner = null) : Exception(message, inner);
