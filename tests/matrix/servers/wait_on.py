"""wait-on tcp:localhost:4000 must wait for the own copy's API, which takes its time, and not be content with another's."""
from server import Server

SERVER = Server(
    port=3000, ci=True, three=False, commands=[["npm", "run", "dev"]], api="/api", api_port=4000, same_output=False,
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "concurrently -n api,web \\"node api.js\\" \\"wait-on tcp:localhost:4000 && node web.js\\""}}\n',
        "api.js": """setTimeout(() => {
    const server = require("http").createServer((request, response) => response.end("api of @CONTENT@"));
    server.listen(4000, () => console.log(`api on http://localhost:${server.address().port}`));
}, 1500);
""",
        "web.js": """// Whom it meets when it starts is what it shows for ever.
const http = require("http");
let met = "nobody: ";
http.get("http://localhost:4000/", (answer) => { met = ""; answer.on("data", (data) => { met += data; }); answer.on("end", serve); }).on("error", (error) => { met += error; serve(); });
function serve() {
    const server = http.createServer((request, response) => response.end(request.url === "/api" ? met : "@CONTENT@"));
    server.listen(3000, () => console.log(`web on http://localhost:${server.address().port}`));
}
"""})
