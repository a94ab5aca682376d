using System.Collections.Concurrent;
using System.Reflection;
using MassTransit;

namespace OutboxBus.MassTransit.Delivery;

/// <summary>
/// The message types this process knows, by their names on the bus. A publish goes through the publish endpoint of its
/// type, so that subscribers to base types and interfaces get their copy. A stored name is only ever looked up here.
/// </summary>
internal sealed class MessageTypes(IEnumerable<KnownTypes> known)
{
    private static readonly MethodInfo CreateOpen = typeof(MessageTypes).GetMethod(nameof(Create), BindingFlags.NonPublic | BindingFlags.Static)!;

    private readonly ConcurrentDictionary<string, Func<IPublishEndpointProvider, Task<ISendEndpoint>>> _endpoints = new();
    private readonly Lazy<Dictionary<string, Type>> _declared = new(() => Declared(known));

    public void Add<T>()
        where T : class => _endpoints.TryAdd(MessageUrn.ForTypeString<T>(), GetEndpoint<T>);

    /// <summary>The publish endpoint of a stored type name; null when this process does not know the type.</summary>
    public Task<ISendEndpoint>? FindPublishEndpoint(string messageType, IPublishEndpointProvider bus)
    {
        if (_endpoints.TryGetValue(messageType, out var endpoint))
            return endpoint(bus);
        // After a restart nothing has been published yet: the types are those of the application's assemblies.
        if (!_declared.Value.TryGetValue(messageType, out var type))
            return null;
        endpoint = _endpoints.GetOrAdd(messageType, (Func<IPublishEndpointProvider, Task<ISendEndpoint>>)CreateOpen.MakeGenericMethod(type).Invoke(null, null)!);
        return endpoint(bus);
    }

    private static Func<IPublishEndpointProvider, Task<ISendEndpoint>> Create<T>()
        where T : class => GetEndpoint<T>;

    private static Task<ISendEndpoint> GetEndpoint<T>(IPublishEndpointProvider bus)
        where T : class => bus.GetPublishSendEndpoint<T>();

    private static Dictionary<string, Type> Declared(IEnumerable<KnownTypes> known)
    {
        var types = new Dictionary<string, Type>();
        foreach (var type in known.SelectMany(source => source.Find()))
        {
            if (IsMessageType(type))
                types.TryAdd(MessageUrn.ForTypeString(type), type);
        }

        return types;
    }

    // MassTransit gives types without a namespace no address.
    private static bool IsMessageType(Type type)
        => (type.IsClass || type.IsInterface) && type.Namespace is not null && !type.ContainsGenericParameters && !type.IsSubclassOf(typeof(Delegate)) && !type.IsSubclassOf(typeof(Attribute))
            && type is { IsSpecialName: false } && !(type.IsAbstract && type.IsSealed);
}

/// <summary>A source of types that the application has declared as its own.</summary>
internal sealed record KnownTypes(Func<IEnumerable<Type>> Find)
{
    /// <summary>Types named one by one.</summary>
    public static KnownTypes Of(params Type[] types) => new(() => types);

    /// <summary>
    /// The types of an assembly and of the assemblies it references, but for those of the framework: contracts usually
    /// stand in an assembly of their own.
    /// </summary>
    public static KnownTypes OfAssembly(Assembly assembly) => new(() => WithReferences(assembly).SelectMany(LoadableTypes));

    private static HashSet<Assembly> WithReferences(Assembly root)
    {
        var found = new HashSet<Assembly> { root };
        var open = new Queue<Assembly>([root]);
        while (open.TryDequeue(out var assembly))
        {
            foreach (var name in assembly.GetReferencedAssemblies().Where(reference => !IsFramework(reference.Name!)))
            {
                if (TryLoad(name) is { } referenced && found.Add(referenced))
                    open.Enqueue(referenced);
            }
        }

        return found;
    }

    private static Assembly? TryLoad(AssemblyName name)
    {
        try
        {
            return Assembly.Load(name);
        }
        catch (Exception exception) when (exception is FileNotFoundException or FileLoadException or BadImageFormatException)
        {
            // Referenced at build time only; it declares no message of this process.
            return null;
        }
    }

    // Their types are no messages of the application; their references lead to more of the same.
    private static bool IsFramework(string name)
        => name is "netstandard" or "mscorlib" or "System" or "MassTransit" or "Npgsql"
            || name.StartsWith("System.", StringComparison.Ordinal)
            || name.StartsWith("Microsoft.", StringComparison.Ordinal)
            || name.StartsWith("MassTransit.", StringComparison.Ordinal)
            || name.StartsWith("Npgsql.", StringComparison.Ordinal);

    private static IEnumerable<Type> LoadableTypes(Assembly assembly)
    {
        try
        {
            return assembly.GetTypes();
        }
        catch (ReflectionTypeLoadException exception)
        {
            return exception.Types.OfType<Type>();
        }
    }
}
