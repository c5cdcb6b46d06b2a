"""node --watch: a child of the watcher binds."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["node", "--watch", "server.js"]],
    files={
        "package.json": '{"name": "app"}\n',
        "server.js": """const server = require("http").createServer((request, response) => response.end("@CONTENT@"));
server.listen(3000, () => console.log(`listening on ${server.address().port}: http://localhost:${server.address().port}/`));
"""})
