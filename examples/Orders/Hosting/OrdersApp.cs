using Examples.Hosting;
using Microsoft.EntityFrameworkCore;
using Orders.Api;
using Orders.Data;
using OutboxBus.Diagnostics;

namespace Orders.Hosting;

/// <summary>Puts the application together: read this first.</summary>
public static class OrdersApp
{
    /// <param name="engines">The database and the broker.</param>
    /// <param name="url">Where to listen; port 0: a free one.</param>
    /// <param name="configureLogging">Where the log goes.</param>
    /// <param name="faults">Accidents to happen; null: none. Only the walkthrough has some.</param>
    public static WebApplication Build(Engines engines, string url, Action<ILoggingBuilder> configureLogging, FaultPoints? faults = null)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.WebHost.UseUrls(url);
        configureLogging(builder.Logging);
        if (faults is not null)
            builder.Services.AddSingleton(faults);

        builder.Services.AddDbContext<OrdersDb>(engines.UseDatabase);
        builder.Services.AddOutboxBus(bus =>
        {
            bus.UseEntityFrameworkCore<OrdersDb>(engines.UseStore);
            engines.UseTransport(bus);
            bus.AddHandlers(typeof(OrdersApp).Assembly);
            // For the walkthrough's sake; leave it out to have the defaults.
            bus.Delivery(ShortTimes.Use);
        });

        builder.Services.AddControllers().AddApplicationPart(typeof(OrdersApp).Assembly);
        builder.Services.AddProblemDetails();

        var app = builder.Build();
        app.UseExceptionHandler(new ExceptionHandlerOptions
        {
            // What the database refuses is the request's fault, such as an order of nothing.
            StatusCodeSelector = exception => exception is DbUpdateException ? StatusCodes.Status409Conflict : StatusCodes.Status500InternalServerError,
        });
        app.MapControllers();
        app.MapOrders();
        app.MapHealthChecks("/health");
        return app;
    }
}
