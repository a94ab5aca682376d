using Examples.Hosting;
using Sagas.Hosting;
using Sagas.Walkthrough;

return await new ExampleCommand<SagasStage>(new SagasExample()).RunAsync(args);
