"""hapi binds localhost, which it resolves first, and prints the port that it read back."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["node", "server.js"]],
    files={
        "package.json": '{"name": "app", "dependencies": {"@hapi/hapi": "21"}}\n',
        "server.js": """const server = require("@hapi/hapi").server({ port: 3000, host: "localhost" });
server.route({ method: "GET", path: "/", handler: () => "@CONTENT@" });
process.on("SIGTERM", () => server.stop().then(() => process.exit(0)));
server.start().then(() => console.log(`listening on ${server.info.uri}`));
"""})
