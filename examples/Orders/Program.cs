using Orders.Hosting;

return await OrdersCommand.RunAsync(args);
