"""node --inspect: the inspector binds 9229 from a thread of its own, before the app does."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["node", "--inspect", "server.js"]],
    files={
        "package.json": '{"name": "app"}\n',
        "server.js": """const server = require("http").createServer((request, response) => response.end("@CONTENT@"));
server.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}/`));
"""},
    same_output=False)  # the debugger's URL has a random id
