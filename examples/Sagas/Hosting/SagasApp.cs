using System.Text.Json.Serialization;
using Examples.Hosting;
using Microsoft.EntityFrameworkCore;
using OutboxBus.Diagnostics;
using Sagas.Api;
using Sagas.Data;
using Sagas.Saga;

namespace Sagas.Hosting;

/// <summary>Puts the application together: read this first.</summary>
public static class SagasApp
{
    /// <param name="engines">The database and the broker.</param>
    /// <param name="limits">How long the services may take to answer.</param>
    /// <param name="url">Where to listen; port 0: a free one.</param>
    /// <param name="configureLogging">Where the log goes.</param>
    /// <param name="faults">Accidents to happen; null: none. Only the walkthrough has some.</param>
    public static WebApplication Build(Engines engines, AnswerLimits limits, string url, Action<ILoggingBuilder> configureLogging, FaultPoints? faults = null)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.WebHost.UseUrls(url);
        configureLogging(builder.Logging);
        if (faults is not null)
            builder.Services.AddSingleton(faults);

        builder.Services.AddFulfilment(engines, limits);
        var app = builder.Build();
        app.MapFulfilment();
        return app;
    }

    /// <summary>The services by themselves, for tests, which have a host of their own.</summary>
    public static void AddFulfilment(this IServiceCollection services, Engines engines, AnswerLimits limits)
    {
        services.AddSingleton(limits);
        services.AddDbContext<SagasDb>(engines.UseDatabase);
        services.AddOutboxBus(bus =>
        {
            bus.UseEntityFrameworkCore<SagasDb>(engines.UseStore);
            engines.UseTransport(bus);
            bus.AddHandlers(typeof(SagasApp).Assembly);
            bus.AddSaga<OrderStateMachine, OrderState>(saga => saga.EndpointName = "fulfilment");
            // For the walkthrough's sake; leave it out to have the defaults.
            bus.Delivery(ShortTimes.Use);
        });

        services.AddControllers()
            .AddApplicationPart(typeof(SagasApp).Assembly)
            .AddJsonOptions(json => json.JsonSerializerOptions.Converters.Add(new JsonStringEnumConverter()));
        services.AddProblemDetails();
    }

    public static void MapFulfilment(this WebApplication app)
    {
        app.UseExceptionHandler(new ExceptionHandlerOptions
        {
            // What the database refuses is the request's fault, such as an order of nothing, or a second answer at the same time.
            StatusCodeSelector = exception => exception is DbUpdateException ? StatusCodes.Status409Conflict : StatusCodes.Status500InternalServerError,
        });
        app.MapControllers();
        app.MapGet("/books", (SagasDb db, CancellationToken cancellationToken) => Books.ReadAsync(db, cancellationToken));
        app.MapHealthChecks("/health");
    }
}
