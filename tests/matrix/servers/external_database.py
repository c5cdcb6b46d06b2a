"""Two projects use one database that runs outside of portwrap, on its usual port: nothing may come between."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["node", "server.js"]], api="/database", needs=("redis-server",),
    external=(6379, ["redis-server", "--port", "6379", "--save", "", "--appendonly", "no"]),
    files={
        "package.json": '{"name": "app"}\n',
        "server.js": """const http = require("http");
const net = require("net");
function ask(text, then) {
    const connection = net.connect(6379, "127.0.0.1", () => connection.write(text));
    connection.on("data", (data) => { connection.destroy(); then(String(data)); });
    connection.on("error", (error) => then(String(error)));
}
const server = http.createServer((request, response) => {
    if (request.url !== "/database") { return response.end("@CONTENT@"); }
    ask("SET of-@CONTENT@ @CONTENT@\\r\\n", () => ask("GET of-@CONTENT@\\r\\n", (data) => response.end(data)));
});
server.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}`));
"""})
