using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using OutboxBus.Testing.Shop;

namespace OutboxBus.Testing.Tests;

// A broker that refuses the orders, as one that has no queue for them; the rest it takes.
internal sealed class RefusingSender(IEnvelopeSender sender, int times) : IEnvelopeSender
{
    private int _refused;

    public Task<SendOutcome> SendAsync(Envelope envelope, CancellationToken cancellationToken)
        => envelope.MessageType.EndsWith(nameof(OrderPlaced), StringComparison.Ordinal) && Interlocked.Increment(ref _refused) <= times
            ? Task.FromResult(SendOutcome.Refused(new InvalidOperationException("There is no queue.")))
            : sender.SendAsync(envelope, cancellationToken);
}

internal static class RefusalExtensions
{
    public static void AddRefusal(this IServiceCollection services, int times)
    {
        var sender = services.Single(service => service.ServiceType == typeof(IEnvelopeSender)).ImplementationType!;
        services.Replace(ServiceDescriptor.Singleton<IEnvelopeSender>(provider => new RefusingSender((IEnvelopeSender)ActivatorUtilities.CreateInstance(provider, sender), times)));
    }
}
