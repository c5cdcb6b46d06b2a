"""fastify binds ::1, reads the port back, binds 127.0.0.1."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["node", "server.js"]],
    files={
        "package.json": '{"name": "app", "dependencies": {"fastify": "5"}}\n',
        "server.js": """const app = require("fastify")({ logger: { stream: process.stdout } });
app.get("/", async () => "@CONTENT@");
app.listen({ port: 3000 });
"""},
    same_output=False)  # it logs every request with times and numbers of its own
