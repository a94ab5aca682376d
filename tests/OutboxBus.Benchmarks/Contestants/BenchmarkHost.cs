using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace OutboxBus.Benchmarks.Contestants;

// A host without configuration files and without logging, the same for every contestant.
public sealed class BenchmarkHost : IAsyncDisposable
{
    private static readonly TimeSpan s_stopLimit = TimeSpan.FromSeconds(30);

    private readonly IHost _host;

    private BenchmarkHost(IHost host) => _host = host;

    public IServiceProvider Services => _host.Services;

    public static BenchmarkHost Build(Action<IServiceCollection> configure)
    {
        var builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        configure(builder.Services);
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = s_stopLimit);
        return new BenchmarkHost(builder.Build());
    }

    // Pooled, as the README advises.
    public static void AddShop(IServiceCollection services, BenchmarkStage stage)
        => services.AddDbContextPool<ShopDb>(options => options.UseNpgsql(stage.ConnectionString));

    // Several hosts live in one process one after the other; what one leaves in the flow must not reach the next.
    public async Task StartAsync()
    {
        await using (var scope = Services.CreateAsyncScope())
            await scope.ServiceProvider.GetRequiredService<ShopDb>().Database.EnsureCreatedAsync();
        Task starting;
        using (ExecutionContext.SuppressFlow())
            starting = Task.Run(() => _host.StartAsync());
        await starting;
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        if (_host is IAsyncDisposable disposable)
            await disposable.DisposeAsync();
        else
            _host.Dispose();
    }
}
