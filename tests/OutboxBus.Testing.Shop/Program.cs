using OutboxBus.Testing.Shop;

var builder = WebApplication.CreateBuilder(args);
builder.Services.AddShop();
var app = builder.Build();
app.MapShop();
app.Run();

public partial class Program;
