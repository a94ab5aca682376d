using Microsoft.AspNetCore.Mvc;
using Microsoft.EntityFrameworkCore;
using Sagas.Data;
using Sagas.Services;

namespace Sagas.Api;

/// <summary>Makes the simulated services behave.</summary>
[ApiController]
public sealed class ServicesController(SagasDb db, PaymentHandler payment, StockHandler stock, ShippingHandler shipping) : ControllerBase
{
    /// <summary>From now on the service accepts, refuses or keeps silent.</summary>
    [HttpPost("services/{service}/{behaviour}")]
    public async Task<ActionResult<ServiceSetting>> Set(Service service, Behaviour behaviour, CancellationToken cancellationToken)
    {
        var setting = await db.Settings.FindAsync([service], cancellationToken) ?? db.Settings.Add(new ServiceSetting { Service = service }).Entity;
        setting.Behaviour = behaviour;
        await db.SaveChangesAsync(cancellationToken);
        return setting;
    }

    /// <summary>A service that has kept silent about an order answers now, maybe too late. 409: it was not asked, or has answered.</summary>
    [HttpPost("orders/{id:guid}/{service}/{answer}")]
    public async Task<ActionResult<Question>> Answer(Guid id, Service service, Behaviour answer, CancellationToken cancellationToken)
    {
        // The stock is changed by a statement of its own, hence a transaction around that and SaveChanges. The answer leaves after its commit.
        await using var transaction = await db.Database.BeginTransactionAsync(cancellationToken);
        var question = await db.Questions.FirstOrDefaultAsync(row => row.OrderId == id && row.Service == service && row.Answer == null, cancellationToken);
        if (question is null || answer == Behaviour.Silent)
            return Conflict();
        SimulatedService asked = service switch
        {
            Service.Payment => payment,
            Service.Stock => stock,
            _ => shipping,
        };
        await asked.AnswerAsync(question, answer, cancellationToken);
        await db.SaveChangesAsync(cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return question;
    }
}
