namespace OutboxBus.TestServers.Processes;

internal static class Executables
{
    public static string? InPath(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "")
            .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .FirstOrDefault(folder => File.Exists(Path.Combine(folder, name)));

    // The first folder that holds all the files, the newest version first where the pattern's * stands for a version.
    public static string? FolderWith(string[] files, params IEnumerable<string> patterns)
    {
        if (OperatingSystem.IsWindows())
            return null;
        return patterns.SelectMany(Expand).FirstOrDefault(folder => files.All(file => File.Exists(Path.Combine(folder, file))));
    }

    private static IEnumerable<string> Expand(string pattern)
    {
        var star = pattern.IndexOf('*', StringComparison.Ordinal);
        if (star < 0)
            return [pattern];

        var parent = Path.GetDirectoryName(pattern[..star])!;
        var rest = pattern[(star + 1)..].TrimStart('/');
        if (!Directory.Exists(parent))
            return [];
        return Directory.GetDirectories(parent, Path.GetFileName(pattern[..(star + 1)]))
            .OrderByDescending(VersionIn)
            .Select(folder => Path.Combine(folder, rest));
    }

    private static double VersionIn(string folder)
    {
        var digits = new string([.. Path.GetFileName(folder).SkipWhile(c => !char.IsAsciiDigit(c)).TakeWhile(c => char.IsAsciiDigit(c) || c == '.')]);
        return double.TryParse(digits, System.Globalization.CultureInfo.InvariantCulture, out var version) ? version : 0;
    }
}
