"""nest's own template: listen(process.env.PORT ?? 3000)."""
from server import Server

SERVER = Server(
    port=3000, commands=[["node", "main.js"]],
    files={
        "package.json": '{"name": "app", "dependencies": {"@nestjs/core": "11"}}\n',
        "main.js": """require("reflect-metadata");
const { Module, Controller, Get } = require("@nestjs/common");
const { NestFactory } = require("@nestjs/core");
class AppController { hello() { return "@CONTENT@"; } }
Controller()(AppController);
Get()(AppController.prototype, "hello", Object.getOwnPropertyDescriptor(AppController.prototype, "hello"));
class AppModule {}
Module({ controllers: [AppController] })(AppModule);
NestFactory.create(AppModule).then(async (app) => {
    app.enableShutdownHooks();
    await app.listen(process.env.PORT ?? 3000);
    console.log(`listening on ${await app.getUrl()}`);
});
"""})
