using Examples.Hosting;
using Orders.Hosting;
using Orders.Walkthrough;

return await new ExampleCommand<OrdersStage>(new OrdersExample()).RunAsync(args);
