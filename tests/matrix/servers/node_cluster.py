"""node's cluster with the port in the code: the primary binds, the workers compare what getsockname says."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["node", "server.js"]],
    files={
        "package.json": '{"name": "app"}\n',
        "server.js": """const cluster = require("cluster");
if (cluster.isPrimary) {
    cluster.fork();
    cluster.fork();
    cluster.on("exit", (worker, code) => { console.log(`a worker ended with ${code}`); });
    process.on("SIGTERM", () => process.exit(0));
} else {
    require("http").createServer((request, response) => response.end("@CONTENT@")).listen(3000, () => console.log("a worker listens"));
}
"""})
